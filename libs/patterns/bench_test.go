package patterns

import (
	"fmt"
	"testing"
)

// BenchmarkAdd is lines of three kinds.
func BenchmarkAdd(b *testing.B) {
	for name, line := range map[string]func(i int) string{
		"words": func(i int) string {
			return fmt.Sprintf("user u%d logged in from 10.0.0.%d after %d ms", i, i%256, i%97)
		},
		"logfmt": func(i int) string {
			return fmt.Sprintf(`ts=2026-01-01 level=info msg="request done" path=/item/%d status=200 took=%dms`, i, i%97)
		},
		"json": func(i int) string {
			return fmt.Sprintf(`{"level":"info","msg":"request %d done","status":200,"took":%d}`, i, i%97)
		},
	} {
		b.Run(name, func(b *testing.B) {
			lines := make([]string, 10_000)
			for i := range lines {
				lines[i] = line(i)
			}
			s := New(10)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Add("app", "info", 0, lines[i%len(lines)])
			}
		})
	}
}
