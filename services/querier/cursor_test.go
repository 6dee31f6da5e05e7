package querier

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	cursorv1 "github.com/weir-logs/weir/gen/go/weir/cursor/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

func selectorAB(t testing.TB) *syntax.LogSelector {
	t.Helper()
	expr, err := syntax.ParseCanonical(`{a="b"}`)
	if err != nil {
		t.Fatal(err)
	}
	return expr.(*syntax.LogSelector)
}

// A cursor holds what it was given, in little more than 8 bytes for an entry, those of
// earlier versions too.
func TestCursors(t *testing.T) {
	sel := selectorAB(t)
	full := tailCursor{
		Positions: map[string]position{"a": {"i", 1, 0}, "b": {"j", 1 << 60, 77}},
		Pending:   make([]uint64, maxPending), Began: -5,
		History: &tailHistory{Start: 1, End: 2, Limit: 3, Done: true, Shown: make([]uint64, maxShown)},
	}
	for i := range full.Pending {
		full.Pending[i] = rand.Uint64()
	}
	for i := range full.History.Shown {
		full.History.Shown[i] = rand.Uint64()
	}
	text := encodeCursor(queryHash(sel), full)
	if most := (8*(maxPending+maxShown) + 100) * 4 / 3; len(text) > most {
		t.Errorf("a cursor of %d bytes, not %d", len(text), most)
	}
	if got, err := decodeCursor(text, sel); err != nil || !reflect.DeepEqual(*got, full) {
		t.Errorf("%v: %+v", err, got)
	}
	old := fmt.Sprintf(`{"v":2,"q":%d,"a":{"a":{"i":"i","p":1},"b":{"i":"j","p":2,"d":true}},"s":[18446744073709551615],"b":5,"h":{"s":1,"e":2,"l":3,"d":true,"k":"AQAAAAAAAAACAAAAAAAAAA=="}}`, queryHash(sel))
	got, err := decodeCursor(base64.RawURLEncoding.EncodeToString([]byte(old)), sel)
	if err != nil {
		t.Fatal(err)
	}
	since := got.Positions["b"].Done
	want := tailCursor{
		Positions: map[string]position{"a": {"i", 1, 0}, "b": {"j", 2, since}}, Pending: []uint64{1<<64 - 1}, Began: 5,
		History: &tailHistory{Start: 1, End: 2, Limit: 3, Done: true, Shown: []uint64{1, 2}},
	}
	if since == 0 || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v", got)
	}
}

// FuzzCursor decodes what somebody made up: an error, or a cursor that stays what it is.
func FuzzCursor(f *testing.F) {
	sel := selectorAB(f)
	f.Add([]byte(`{"v":1,"a":{}}`))
	f.Add([]byte{})
	good, err := base64.RawURLEncoding.DecodeString(encodeCursor(queryHash(sel), tailCursor{
		Positions: map[string]position{"a": {"i", 1, 2}}, Pending: []uint64{3}, Began: 4, History: &tailHistory{Shown: []uint64{5}},
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCursor(base64.RawURLEncoding.EncodeToString(b), sel)
		if err != nil {
			return
		}
		again, err := decodeCursor(encodeCursor(queryHash(sel), *c), sel)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%v: %+v, was %+v", err, again, c)
		}
	})
}

// The cursor of a tail that goes on for days, while ingesters come and leave under ever new
// names, names those of late only; each entry comes once.
func TestCursorsOfLongTails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		const rounds = 20
		for i := range rounds + 2 {
			names = append(names, fmt.Sprint("ingester-", i))
		}
		tr := newTroupe(t, 1, names...)
		tr.pace = 4 * time.Second
		tr.know(names[:2]...)
		for i := range rounds {
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
			tr.tailFor(responses, 10*time.Second)
			tr.know(names[i : i+3]...)
			tr.tailFor(responses, 10*time.Second)
			tr.append(uint64(i+1), names[i])
			tr.append(uint64(100+i), names[i+2])
			tr.change(names[i], func(a *actor) { a.last = true })
			tr.tailFor(responses, time.Minute)
			tr.expect(fmt.Sprint("round ", i), []int64{int64(i + 1), int64(100 + i)})
			tr.leave(names[i], true, names[i:i+3]...)
			tr.tailFor(responses, 20*time.Minute)
			c, err := decodeCursor(tr.cursor, selectorAB(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Positions) > 6 || len(tr.cursor) > 400 {
				t.Errorf("round %d: %d ingesters in %d bytes", i, len(c.Positions), len(tr.cursor))
			}
			stop()
			time.Sleep(10 * time.Second)
		}
	})
}

// A cursor that was made up is refused or followed, and never more than that.
func TestCursorsThatWereMadeUp(t *testing.T) {
	sel := selectorAB(t)
	made := func(change func(*cursorv1.TailCursor)) string {
		b, err := base64.RawURLEncoding.DecodeString(encodeCursor(queryHash(sel), tailCursor{Positions: map[string]position{"a": {"a", 1, 0}}}))
		if err != nil {
			t.Fatal(err)
		}
		var m cursorv1.TailCursor
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if b, err = proto.Marshal(&m); err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	json := func(text string) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"q":%d,%s}`, queryHash(sel), text))
	}
	good := made(func(*cursorv1.TailCursor) {})
	for what, bad := range map[string]string{
		"a version of later": made(func(m *cursorv1.TailCursor) { m.Version++ }),
		"no version":         made(func(m *cursorv1.TailCursor) { m.Version = 0 }),
		"another query":      made(func(m *cursorv1.TailCursor) { m.Query++ }),
		"too much history": made(func(m *cursorv1.TailCursor) {
			m.History = &cursorv1.TailHistory{Shown: make([]uint64, maxShown+1)}
		}),
		"too many entries":      made(func(m *cursorv1.TailCursor) { m.Pending = make([]uint64, maxPending+1) }),
		"too long":              good + strings.Repeat("A", maxCursor),
		"no number of position": json(`"v":1,"a":{"a":{"p":-1}}`),
		"JSON of no version":    json(`"a":{}`),
		"nothing":               "AAAA",
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
		made(func(m *cursorv1.TailCursor) { m.Began = math.MinInt64 }),
		made(func(m *cursorv1.TailCursor) { m.Began = math.MaxInt64 }),
		made(func(m *cursorv1.TailCursor) { m.Positions[0].Position = 0 }),
		made(func(m *cursorv1.TailCursor) { m.Positions[0].DoneSeconds = math.MaxUint64 }),
		made(func(m *cursorv1.TailCursor) {
			m.Positions = append(m.Positions, &cursorv1.TailPosition{Ingester: "nobody", Incarnation: "x", Position: 7}, &cursorv1.TailPosition{})
		}),
		made(func(m *cursorv1.TailCursor) { m.Positions = nil }),
		made(func(m *cursorv1.TailCursor) { m.History = &cursorv1.TailHistory{Done: true, Start: 1, End: -1} }),
		json(`"v":1,"b":-9223372036854775808,"h":{"d":true,"k":"AAAA"}`),
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
