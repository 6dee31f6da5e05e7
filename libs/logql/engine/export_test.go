package engine

// SetIntervalPage sets how many rows a log query with an interval takes at a time.
func SetIntervalPage(n int) { intervalPage = n }

// SetSplitRows sets how many rows of a stream are worth a task of their own.
func SetSplitRows(n uint64) { splitRows = n }

// Sampled reports whether an entry is part of a sample.
func Sampled(hash uint64, share float64) bool { return sampled(hash, share) }

// LogParts is how a log query is split by time.
func LogParts(start, end, split int64, backward bool) []TimeRange {
	return logParts(start, end, split, backward)
}
