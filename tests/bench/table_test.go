package bench

import (
	"fmt"
	"strings"
)

// of returns the median over all rounds.
func of(rounds []figures, f func(figures) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, f(r))
	}
	return median(all)
}

// table makes the figures of both factors a table for people, as Markdown.
func table(got map[int][]figures) string {
	var b strings.Builder
	rounds := len(got[factors[0]])
	fmt.Fprintf(&b, "\n| median of %d | RF 1 | RF 3 | RF 3 / RF 1 |\n|---|---|---|---|\n", rounds)
	row := func(name, format string, f func(figures) float64) {
		one, three := of(got[1], f), of(got[3], f)
		ratio := "–"
		if one > 0 {
			ratio = fmt.Sprintf("%.2f", three/one)
		}
		fmt.Fprintf(&b, "| %s | "+format+" | "+format+" | %s |\n", name, one, three, ratio)
	}
	gb := func(f func(figures) float64) func(figures) float64 {
		return func(x figures) float64 { return 1e9 * f(x) / x.bytes }
	}
	row("processor seconds per GB, until all is flushed", "%.1f", gb(func(x figures) float64 { return total(x.cpu) }))
	row("… of them until all is acknowledged", "%.1f", gb(func(x figures) float64 { return x.cpuAck }))
	row("… of them in the front", "%.1f", gb(func(x figures) float64 { return x.cpu["front"] }))
	row("… of them in the ingesters", "%.1f", gb(func(x figures) float64 { return x.cpu["ingester"] }))
	row("MB of lines a second, acknowledged", "%.0f", func(x figures) float64 { return x.bytes / 1e6 / x.acked.Seconds() })
	row("MB of lines a second, flushed", "%.0f", func(x figures) float64 { return x.bytes / 1e6 / x.flushed.Seconds() })
	row("bytes in the store per byte of line, flushed", "%.4f", func(x figures) float64 { return float64(x.stored[0]) / x.bytes })
	row("processor seconds per GB, compaction", "%.1f", gb(func(x figures) float64 { return x.merge }))
	for i, when := range []string{"flushed", "compacted"} {
		fmt.Fprintf(&b, "\n| query, %s: ms (processor ms) | RF 1 | RF 3 | RF 3 / RF 1 |\n|---|---|---|---|\n", when)
		for _, q := range questions {
			wall := func(x figures) float64 { return x.queries[i][q.name].wall }
			cpu := func(x figures) float64 { return x.queries[i][q.name].cpu }
			w1, w3, c1, c3 := of(got[1], wall), of(got[3], wall), of(got[1], cpu), of(got[3], cpu)
			fmt.Fprintf(&b, "| %s | %.1f (%.1f) | %.1f (%.1f) | %.2f (%.2f) |\n", q.name, w1, c1, w3, c3, w3/w1, c3/c1)
		}
	}
	return b.String()
}
