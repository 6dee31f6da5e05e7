package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// What the frames of a table hold together is bounded, and so is what each of them does: by the
// columns that are in it.
func TestFramesOfATable(t *testing.T) {
	const n = 100
	var cols []*tableColumn
	bytes := int64(0)
	for i := range 12 {
		c := &tableColumn{tableKey: tableKey{name: fmt.Sprintf("name%02d", i)}}
		for row := range n {
			value := fmt.Appendf(nil, "%x-%x", uint64(row*i+1)*0x9E3779B97F4A7C15, make([]byte, 60))
			c.add(uint32(row), value)
			bytes += int64(len(c.name) + len(value))
		}
		cols = append(cols, c)
	}
	b := newEncoder().append(nil, n, cols, nil)
	tab, err := openTable(b, n, 1, maxSideData, metadataLimit(bytes))
	if err != nil {
		t.Fatal(err)
	}
	if len(tab.frames) < 3 {
		t.Fatalf("%d frames", len(tab.frames))
	}
	total, most := int64(0), int64(0)
	for _, reach := range tab.reach {
		total, most = total+reach, max(most, reach)
	}
	heads := int64(len(cols) * (tableHead + 5))
	for _, c := range []struct {
		limit int
		total int64
		fine  bool
	}{{int(most), total - heads, true}, {int(most) - 1, total - heads, false}, {int(most), total - heads - 1, false}} {
		if _, err := openTable(b, n, 1, c.limit, c.total); (err == nil) != c.fine || err != nil && !errors.Is(err, column.ErrCorrupt) {
			t.Errorf("%d bytes of a frame, %d of all: %v", c.limit, c.total, err)
		}
	}
}

func TestFrameOfATableThatHoldsMore(t *testing.T) {
	const n = 40
	c := &tableColumn{tableKey: tableKey{name: "x"}}
	for row := range n {
		c.add(uint32(row), []byte{byte('a' + row%7)})
	}
	b := newEncoder().append(nil, n, []*tableColumn{c}, nil)
	at := len(b) - 4 - int(binary.LittleEndian.Uint32(b[len(b)-4:]))
	dir, err := column.ReadFrame(b[at:len(b)-4], maxSideData)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := column.ReadFrame(b[:at], maxSideData)
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []int{0, 1, 1 << 16} {
		grown := newEncoder().compress.AppendFrame(nil, append(payload[:len(payload):len(payload)], make([]byte, more)...))
		if len(grown) > 127 || dir[2] != 1 { // version, rows, frames, and the size of one
			t.Fatalf("a frame of %d bytes, %d frames", len(grown), dir[2])
		}
		dir[3] = byte(len(grown))
		at := len(grown)
		grown = newEncoder().compress.AppendFrame(grown, dir)
		grown = binary.LittleEndian.AppendUint32(grown, uint32(len(grown)-at))
		tab, err := openTable(grown, n, 1, maxSideData, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tab.column(0); (err == nil) != (more == 0) || err != nil && !errors.Is(err, column.ErrCorrupt) {
			t.Errorf("%d bytes more: %v", more, err)
		}
	}
}

// What a writer takes as labels of a block, readers take as well, also where it is more than one
// frame or one label may have.
func TestLabelsTogether(t *testing.T) {
	var x indexBuilder
	pad := strings.Repeat("a long value/", 8000)
	add := func(i int) {
		t.Helper()
		var ls model.Labels
		for k := range 3 {
			ls = append(ls, model.Label{Name: fmt.Sprintf("label%d", k), Value: fmt.Sprint(i, pad, i*7+k)})
		}
		if err := x.add(ls, []Run{{int64(i), int64(i), 1, 1, 1}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		add(i)
	}
	e := newEncoder()
	if _, err := x.append(nil, e, maxLabels); err != nil {
		t.Fatal(err)
	}
	if _, err := x.append(nil, e, e.total); err != nil {
		t.Error(err)
	}
	if _, err := x.append(nil, e, e.total-1); err == nil {
		t.Errorf("labels of %d bytes are written, which are more than may be", e.total)
	}
	if testing.Short() {
		return
	}
	for i := 10; i < 1000; i++ {
		add(i)
	}
	b, err := x.append(nil, e, maxLabels)
	if err != nil || e.total <= maxIndex {
		t.Fatalf("labels of %d bytes: %v", e.total, err)
	}
	if _, err := openIndex(b, &Info{Streams: 1000, Rows: 1000, RawBytes: 1000, MaxTime: 1000}); err != nil {
		t.Errorf("labels of %d bytes: %v", e.total, err)
	}
}
