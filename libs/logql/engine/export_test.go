package engine

// SetIntervalPage sets how many rows a log query with an interval takes at a time.
func SetIntervalPage(n int) { intervalPage = n }
