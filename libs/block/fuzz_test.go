package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Checksums keep fuzzers out, so that these begin behind them.

func newEncoder() *tableEncoder {
	return &tableEncoder{compress: column.NewCompressor(column.LevelFastest)}
}

func mustBeCorrupt(t *testing.T, err error) {
	if err != nil && !errors.Is(err, column.ErrCorrupt) {
		t.Fatal(err)
	}
}

func FuzzFooter(f *testing.F) {
	foot := &footer{info: Info{Meta: Meta{ID: "a", Tenant: "t", Tombstones: []string{"x"}, Ordered: true}, MinTime: 5, MaxTime: 90, Streams: 1, Rows: 7, RawBytes: 50, IndexSize: 30},
		sections: []section{{linesSize: 100, footerSize: 40, gramsSize: 10, groups: 1}},
		groups:   []group{{rows: 7, bytes: 50, minTime: 5, maxTime: 90, orderSize: 3, metaSize: 4}}}
	size := int64(headSize + 3 + 4 + 100 + 10 + 30 + 77 + tailSize)
	b := appendFooter(nil, foot)
	if _, err := parseFooter(b, size, 77); err != nil {
		f.Fatal(err)
	}
	f.Add(b, size)
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > maxSize {
			return
		}
		got, err := parseFooter(b, size, 77)
		mustBeCorrupt(t, err)
		if err != nil {
			return
		}
		again, err := parseFooter(appendFooter(nil, got), size, 77)
		if err != nil || !slices.Equal(again.groups, got.groups) || !slices.Equal(again.sections, got.sections) {
			t.Fatalf("%v: %+v, %+v", err, again, got)
		}
	})
}

func FuzzIndex(f *testing.F) {
	var x indexBuilder
	for i := range 20 {
		ls := model.Labels{{Name: "a", Value: string(rune('a' + i))}, {Name: "env", Value: "prod"}}
		if i == 3 {
			ls = ls[:1]
		}
		if err := x.add(ls, []Run{{int64(10 * i), int64(10*i + 5), 2, 3, 99}, {int64(10*i + 7), int64(10*i + 8), 1, 0, 7}}); err != nil {
			f.Fatal(err)
		}
	}
	info := Info{Streams: 20, Rows: 60, RawBytes: 60, MaxTime: 1000}
	b, err := x.append(nil, newEncoder(), maxLabels)
	if err != nil {
		f.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint32(b)) + 4
	runs, err := column.ReadFrame(b[n:], maxIndex)
	if err != nil {
		f.Fatal(err)
	}
	table := b[:n]
	f.Add(runs, int64(20), int64(60), int64(60))
	f.Fuzz(func(t *testing.T, runs []byte, streams, rows, bytes int64) {
		if streams != 20 || rows < 0 || bytes < 0 || rows > 1<<16 {
			return
		}
		info := info
		info.Rows, info.RawBytes = rows, bytes
		x, err := openIndex(newEncoder().compress.AppendFrame(slices.Clone(table), runs), &info)
		mustBeCorrupt(t, err)
		if err != nil {
			return
		}
		for i := range x.streams {
			x.stream(i)
			x.runsWithin(i, math.MinInt64, math.MaxInt64)
		}
		_ = x.check()
	})
}

func FuzzOrder(f *testing.F) {
	times := []int64{1, 2, 3, 4, 5, 5, 5, 9}
	e := newEncoder()
	for _, batch := range [][]int64{nil, {5, 5, 5, 7, 7, 7, 1, 1}} {
		b := new(orderEncoder).append(nil, e.compress, &e.columns, times, batch, []uint32{0, 1, 2, 9, 10, 11, 3, 4}, []uint32{2, 7}, []uint32{1, 3})
		p, err := column.ReadFrame(b, maxSideData)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, batch == nil)
	}
	f.Fuzz(func(t *testing.T, p []byte, ordered bool) {
		o, err := openOrder(newEncoder().compress.AppendFrame(nil, p), len(times), times, ordered)
		mustBeCorrupt(t, err)
		if err == nil {
			var rows model.Rows
			o.append(&rows, []uint32{0, 2, 3, 7}, 0, lines.TimesOf(times), func(int) (int, int) { return 0, len(times) }, 0)
			if len(rows.Positions) != 4 {
				t.Fatal(rows.Positions)
			}
		}
	})
}

// slotsOfThree stands for the lines of 40 rows of three templates.
type slotsOfThree struct{}

func (slotsOfThree) MemorySize() int { return 1 }

func (slotsOfThree) SlotValues(slots []uint32) (*column.Values, []uint32, error) {
	var rows, ends []uint32
	var text []byte
	for row := range 40 {
		if t := row % 3; t < len(slots) && slots[t] > 0 {
			if int(slots[t]) > t {
				return nil, nil, column.Corrupt("slot %d", slots[t])
			}
			text = fmt.Appendf(text, "%016x", uint64(row+1)<<40)
			rows, ends = append(rows, uint32(row)), append(ends, uint32(len(text)))
		}
	}
	if len(ends) == 0 {
		return nil, nil, column.Corrupt("no slots")
	}
	return column.Texts(text, ends), rows, nil
}

// threeSlots is rows of which each has as many slots as its number tells, with equal
// values.
type threeSlots struct{ row int }

func (s *threeSlots) Next() int {
	s.row++
	return s.row % 3
}

func (s *threeSlots) Holds(_ int, value []byte) bool {
	return string(value) == string(threeSlot(s.row))
}

func threeSlot(row int) []byte { return fmt.Appendf(nil, "%016x", uint64(row+1)<<40) }

func FuzzTable(f *testing.F) {
	e := newEncoder()
	const n = 40
	templates := make([]int64, n)
	small := make([]uint16, n)
	var cols []*tableColumn
	for i, name := range []string{"all", "few", "half", "level"} {
		c := &tableColumn{tableKey: tableKey{name: name, class: uint8(i / 3)}}
		for row := range n {
			templates[row], small[row] = int64(row%3), uint16(row%3)
			if i == 0 || i == 1 && row == 17 || i == 2 && row%2 == 0 || i == 3 && row%3 > 0 {
				c.add(uint32(row), []byte{byte('a' + row%3*i), byte('0' + i)})
			}
		}
		cols = append(cols, c)
	}
	ids := &tableColumn{tableKey: tableKey{name: "trace"}}
	of := &rowLines{templates: templates, slots: func() slotReader { return &threeSlots{row: -1} }}
	for row := range n {
		if row%3 > 0 {
			ids.add(uint32(row), threeSlot(row))
		}
	}
	cols = append(cols, ids)
	b := e.append(nil, n, cols, of)
	size := int(binary.LittleEndian.Uint32(b[len(b)-4:]))
	at := len(b) - 4 - size
	dir, err := column.ReadFrame(b[at:len(b)-4], maxSideData)
	if err != nil {
		f.Fatal(err)
	}
	data, err := column.ReadFrame(b[:at], maxSideData)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dir, data)
	f.Fuzz(func(t *testing.T, dir, data []byte) {
		c := newEncoder().compress
		b := c.AppendFrame(nil, data)
		at := len(b)
		b = c.AppendFrame(b, dir)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(b)-at))
		tab, err := openTable(b, n, 3, 1<<20, 1<<20)
		mustBeCorrupt(t, err)
		if err != nil {
			return
		}
		tab.lines = slotsOfThree{}
		m := Metadata{tab, small}
		var rows model.Rows
		err = m.append(&rows, []uint32{0, 3, 17, 18, 39}, 0)
		mustBeCorrupt(t, err)
		for _, k := range tab.keys {
			mustBeCorrupt(t, m.Mark(k.name, "a0", func(row int) {
				if row < 0 || row >= n {
					t.Fatal(row)
				}
			}))
			_, _, err := m.Values(k.name)
			mustBeCorrupt(t, err)
		}
	})
}
