package enginetest

// Hash returns the hash of an entry.
func Hash(e Entry) uint64 { return build([]Entry{e}).Hash(0) }
