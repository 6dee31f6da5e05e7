package ingester

import "slices"

// Missing says what this incarnation is known to have lost of what it acknowledged,
// in the words in which answers name it: damaged parts of the log and of local blocks
// that are not in the store either. It may be called once Start has returned.
func (s *Service) Missing() []string {
	out := s.gaps()
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	for _, d := range s.blocks.lost {
		out = append(out, d.String())
	}
	for id, what := range s.blocks.bad {
		if _, up := s.blocks.uploaded[id]; !up {
			out = append(out, what)
		}
	}
	return out
}

// unsettled returns the gaps that the cluster has not made up for.
func (s *Service) unsettled(gaps []string) []string {
	if s.deps.Settled == nil {
		return gaps
	}
	return slices.DeleteFunc(gaps, s.deps.Settled)
}
