package mutants

// Mutants of the rules of the cluster.
func init() {
	mutants = append(mutants,
		mutant{"19", "the answer of another data directory counts", "services/querier/holders.go",
			"if opened.GetIncarnation() != h.incarnation {", "if opened == nil {",
			"services/querier", "TestHoldersAreIncarnations"},
		mutant{"20", "a past data directory is no gap", "libs/ring/gap.go",
			"return m.Stores() && m.State != Left && m.State != Forgotten }", "return false }",
			"libs/ring", "TestRule20WipedDirectoryIsMissing"},
		mutant{"20", "past data directories are dropped", "libs/ring/table.go",
			"case !m.ephemeral():", "case m.State > Lost:",
			"libs/ring", "TestMergeLaws"},
		mutant{"20", "a gap heals before the others have flushed", "services/weir/heal.go",
			"return flushed[m.Incarnation] }); healed", "return flushed != nil }); healed",
			"services/weir", "TestRule20GapHealsWhenOthersHaveFlushed"},
		mutant{"21", "answers are judged by the old table only", "services/querier/holders.go",
			"if err := h.asked.learnt(view); err != nil {", "if err := h.asked.complete(nil); err != nil {",
			"services/querier", "TestRule21NewMembersAreMissed"},
		mutant{"21", "who joins is active when one has heard of it", "libs/ring/gossip/confirm.go",
			"\treturn 2*len(have) > all\n}", "\treturn len(have) > 1 || all == 1\n}",
			"libs/ring/gossip", "TestRule21JoinIsConfirmed"},
		mutant{"19", "one acknowledgement is enough", "services/distributor/replicate.go",
			"w := newWait(quorum, split.Copies)", "w := newWait(1, split.Copies)",
			"services/distributor", "TestAckNeedsAQuorum"},
		mutant{"19", "who did not answer is not missed", "libs/ring/view.go",
			"if v.gaps[m.Name] || !answered(m) {", "if v.gaps[m.Name] {",
			"libs/ring", "TestCompleteAgainstTwin"},
		mutant{"26", "a request is stored after its deadline", "services/ingester/ingest.go",
			"if d := req.GetDeadline(); d != nil {", "if d := req.GetDeadline(); d.GetNanos() < 0 {",
			"services/ingester", "TestBadBlocksAreRefused"},
	)
}
