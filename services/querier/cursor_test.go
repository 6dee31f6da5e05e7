package querier

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// A cursor that was made up is refused or followed, and never more than that.
func TestCursorsThatWereMadeUp(t *testing.T) {
	expr, err := syntax.ParseCanonical(`{a="b"}`)
	if err != nil {
		t.Fatal(err)
	}
	sel := expr.(*syntax.LogSelector)
	good := encodeCursor(sel, tailCursor{Positions: map[string]position{"a": {"a", 1, false}}})
	b, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, text string) string {
		if !strings.Contains(string(b), old) {
			t.Fatalf("no %q in %s", old, b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(b), old, text, 1)))
	}
	for what, bad := range map[string]string{
		"a version of later":    with(`"v":1`, `"v":3`),
		"no version":            with(`"v":1`, `"v":0`),
		"no positions":          with(`{"a":{"i":"a","p":1}}`, `null`),
		"another query":         with(`"q":`, `"q":1`),
		"half a hash":           with(`"v":1`, `"v":2,"h":{"k":"AAAA"}`),
		"too much history":      with(`"v":1`, `"v":2,"h":{"k":"`+base64.StdEncoding.EncodeToString(make([]byte, 8*(maxShown+1)))+`"}`),
		"too many entries":      with(`"v":1`, `"v":1,"s":[0`+strings.Repeat(",0", maxPending)+`]`),
		"too long":              with(`"v":1`, `"v":1`+strings.Repeat(" ", maxCursor)),
		"no number of position": with(`"p":1`, `"p":-1`),
		"no JSON":               "AAAA",
		"no base64":             "?",
	} {
		if c, err := decodeCursor(bad, sel); err == nil {
			t.Errorf("%s: %+v", what, c)
		}
	}
	if _, err := decodeCursor(good, sel); err != nil {
		t.Error(err)
	}
	for _, strange := range []string{
		with(`"v":1`, `"v":1,"b":-9223372036854775808`),
		with(`"v":1`, `"v":1,"b":9223372036854775807`),
		with(`"p":1`, `"p":0`),
		with(`{"a":{`, `{"nobody":{"i":"x","p":7},"":{},"a":{`),
		with(`"v":1`, `"v":1,"h":{"d":true,"s":1,"e":-1}`),
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTroupe(t, 1, "a", "b")
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: strange})
			var last *tailv1.TailResponse
			for end := time.After(2 * time.Minute); end != nil; {
				select {
				case m, ok := <-responses:
					if !ok {
						t.Fatal("the tail has ended")
					}
					last = m
					for _, d := range m.GetDropped() {
						if err := d.GetFrom().CheckValid(); err != nil {
							t.Error(err)
						}
					}
				case <-end:
					end = nil
				}
			}
			if _, err := decodeCursor(last.GetCursor(), sel); err != nil {
				t.Errorf("its cursor: %v", err)
			}
			stop()
			time.Sleep(time.Second)
		})
	}
}
