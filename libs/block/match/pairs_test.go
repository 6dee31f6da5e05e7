package match_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// TestPairs compares WEIR_PAIRS random pairs of lines and filters with the twin.
func TestPairs(t *testing.T) {
	n := repeats(300)
	if s := os.Getenv("WEIR_PAIRS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	var st stats
	for st.programs < n && !t.Failed() {
		s := build(t, made(r))
		for range 10 {
			from, to := 0.0, 1.0
			if r.IntN(3) == 0 {
				from, to = r.Float64(), r.Float64()
			}
			check(t, s, program(r, s.blocks), from, to, &st)
		}
	}
	t.Logf("seed %d: %+v", seed, st)
}
