package match_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/match"
)

// A whole line may be looked for, however long it is: there are too many ways for it to lie
// over slots to list them.
func TestLongLiterals(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var b block
	for i := range 240 {
		var s strings.Builder
		if i%3 > 0 {
			fmt.Fprintf(&s, "short %d", i)
		} else {
			for k := range 60 {
				fmt.Fprintf(&s, "a field of the name %c%c is %d, ", 'a'+k%26, 'a'+k/26, r.IntN(1000))
			}
		}
		b.add(s.String(), start+int64(i)*1e9)
	}
	s := build(t, []block{b})
	var st stats
	for i := range 8 {
		line := string(b.lines.At(3 * r.IntN(80)))
		literal := line[r.IntN(30) : len(line)-r.IntN(30)]
		term := match.Term{Literal: literal, Fold: i%4 == 1}
		check(t, s, []match.Filter{{Any: []match.Term{term}, Negate: i%4 == 2}}, 0, 1, &st)
		check(t, s, []match.Filter{{Any: []match.Term{{Literal: "short 1"}, term}}}, 0, 1, &st)
	}
	if st.hits == 0 {
		t.Error("nothing was found")
	}
}
