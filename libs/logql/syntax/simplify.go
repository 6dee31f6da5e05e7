package syntax

// simplifies reports whether Loki replaces the regex of a label filter by simpler tests.
func simplifies(string) bool { return true }
