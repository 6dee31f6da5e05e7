package block

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/block/column"
)

// A table is named columns of values over n rows, of which each row has any: the
// metadata of a row group, the labels of streams.

const (
	tableVersion = 1
	slotsVersion = 2        // of tables with columns whose values are in the lines
	tableFrame   = 32 << 10 // payloads share frames of about this size

	presentAll      = 0 // every row has a value
	presentBitmap   = 1
	presentList     = 2 // gaps between the rows
	presentTemplate = 3 // values are those of the row's template; a bitmap of the templates
	presentSlot     = 4 // values are in the row's line; the slot of each template

	classSent    = 0
	classDerived = 1
)

// tableKey names a column.
type tableKey struct {
	class   uint8
	name    string
	version uint32
}

func (k tableKey) compare(o tableKey) int {
	switch {
	case k.class != o.class:
		return int(k.class) - int(o.class)
	case k.name != o.name:
		if k.name < o.name {
			return -1
		}
		return 1
	case k.version != o.version:
		if k.version < o.version {
			return -1
		}
		return 1
	}
	return 0
}

// tableColumn is a column to encode. Its rows ascend.
type tableColumn struct {
	tableKey
	rows []uint32
	refs []column.Ref
	slab []byte
}

func (c *tableColumn) add(row uint32, value []byte) {
	c.refs = append(c.refs, column.MakeRef(uint32(len(c.slab)), uint32(len(value))))
	c.slab = append(c.slab, value...)
	c.rows = append(c.rows, row)
}

// eachChange calls f with each value that differs from the one before.
func (c *tableColumn) eachChange(f func(value []byte)) {
	var last []byte
	for i, ref := range c.refs {
		if v := ref.Of(c.slab); i == 0 || string(v) != string(last) {
			f(v)
			last = v
		}
	}
}

// tableEncoder encodes tables.
type tableEncoder struct {
	compress *column.Compressor
	columns  column.Encoder
	payload  []byte
	total    int64 // bytes of the payloads of the last table's frames
}

// append appends the table of n rows. Columns are not empty. If the rows' lines are
// given, columns of derived values are stored by template where they are a function of
// it, and values that are in the lines as well are not stored again.
func (e *tableEncoder) append(dst []byte, n int, cols []*tableColumn, of *rowLines) []byte {
	slices.SortFunc(cols, func(a, b *tableColumn) int { return a.compare(b.tableKey) })
	infos := make([]column.Info, len(cols))
	modes := make([]byte, len(cols))
	presence := make([]int, len(cols))
	var sizes []int
	version := byte(tableVersion)
	e.payload, e.total = e.payload[:0], 0
	flush := func() {
		at := len(dst)
		dst = e.compress.AppendFrame(dst, e.payload)
		e.total += int64(len(e.payload))
		sizes = append(sizes, len(dst)-at)
		e.payload = e.payload[:0]
	}
	for i, c := range cols {
		if len(e.payload) >= tableFrame {
			flush()
		}
		at := len(e.payload)
		refs := c.refs
		if bitmap, values := c.byTemplate(n, of); values != nil {
			modes[i], refs = presentTemplate, values
			e.payload = append(e.payload, bitmap...)
		} else if slots := c.bySlot(n, of); slots != nil {
			modes[i], refs, version = presentSlot, nil, slotsVersion
			for _, slot := range slots {
				e.payload = binary.AppendUvarint(e.payload, uint64(slot))
			}
		} else {
			modes[i] = e.presence(n, c.rows)
		}
		presence[i] = len(e.payload) - at
		if refs != nil {
			infos[i], e.payload = e.columns.Encode(e.payload, c.slab, refs)
		} else {
			infos[i] = column.Info{Kind: column.Const, N: len(c.refs)}
		}
		infos[i].ID = uint32(i)
		infos[i].Offset, infos[i].Size = uint32(at), uint32(len(e.payload)-at-presence[i])
		if len(e.payload) > at {
			infos[i].Frame = uint32(len(sizes))
		} else {
			infos[i].Offset = 0
		}
	}
	if len(e.payload) > 0 {
		flush()
	}
	d := append([]byte(nil), version)
	d = binary.AppendUvarint(d, uint64(n))
	d = binary.AppendUvarint(d, uint64(len(sizes)))
	for _, s := range sizes {
		d = binary.AppendUvarint(d, uint64(s))
	}
	d = binary.AppendUvarint(d, uint64(len(cols)))
	for _, c := range cols {
		d = appendString(d, c.name)
	}
	for _, c := range cols {
		d = append(d, c.class)
	}
	for _, c := range cols {
		d = binary.AppendUvarint(d, uint64(c.version))
	}
	d = append(d, modes...)
	for _, p := range presence {
		d = binary.AppendUvarint(d, uint64(p))
	}
	d = column.AppendInfos(d, infos)
	at := len(dst)
	dst = e.compress.AppendFrame(dst, d)
	return binary.LittleEndian.AppendUint32(dst, uint32(len(dst)-at))
}

// presence appends which rows have a value.
func (e *tableEncoder) presence(n int, rows []uint32) (mode byte) {
	if len(rows) == n {
		return presentAll
	}
	at := len(e.payload)
	prev := uint32(0)
	for _, r := range rows {
		e.payload = binary.AppendUvarint(e.payload, uint64(r-prev))
		prev = r
		if len(e.payload)-at > (n+7)/8 {
			e.payload = append(e.payload[:at], make([]byte, (n+7)/8)...)
			for _, r := range rows {
				e.payload[at+int(r>>3)] |= 1 << (r & 7)
			}
			return presentBitmap
		}
	}
	return presentList
}

// table is a table opened for reading. Columns are decoded when they are asked for,
// once. Safe for concurrent use.
type table struct {
	n         int
	keys      []tableKey
	modes     []byte
	presence  []int
	infos     []column.Info
	data      []byte
	offsets   []int      // of frames, and where the last one ends
	templates int        // how many there are, for presentTemplate
	reach     []int64    // of each frame, the bytes of its payload that columns are in
	lines     slotValues // for presentSlot; nil: there are none

	mu     sync.Mutex
	frames [][]byte
	opened []*tableValues
	memory int
}

// openTable opens a table of n rows. templates is how many templates rows may have, limit
// the largest payload of a frame, and total what all of them may have, besides what tells by
// template where values are.
// The table aliases b.
func openTable(b []byte, n, templates, limit int, total int64) (*table, error) {
	if len(b) < 4 {
		return nil, corrupt("table of %d bytes", len(b))
	}
	size := int(binary.LittleEndian.Uint32(b[len(b)-4:]))
	b = b[:len(b)-4]
	if size > len(b) {
		return nil, corrupt("directory of %d bytes in a table of %d", size, len(b))
	}
	t := &table{n: n, templates: templates, data: b[:len(b)-size]}
	dir, err := column.ReadFrame(b[len(b)-size:], maxSideData)
	if err != nil {
		return nil, err
	}
	d := decoder{b: dir}
	version := d.byte()
	if version != tableVersion && version != slotsVersion {
		return nil, corrupt("table of version %d, this is a reader of version %d", version, slotsVersion)
	}
	if rows := d.uvarint(); rows != uint64(n) {
		return nil, corrupt("table of %d rows, %d are expected", rows, n)
	}
	t.offsets = make([]int, d.count(maxSideData)+1)
	t.frames = make([][]byte, len(t.offsets)-1)
	for i := range t.frames {
		t.offsets[i+1] = t.offsets[i] + int(d.int(maxSize))
		if t.offsets[i+1] > len(t.data) {
			return nil, corrupt("frames of more than %d bytes", len(t.data))
		}
	}
	if d.bad || t.offsets[len(t.frames)] != len(t.data) {
		return nil, corrupt("table: sizes of frames")
	}
	cols := d.count(MaxNames)
	t.keys = make([]tableKey, cols)
	for i := range t.keys {
		t.keys[i].name = d.string(maxSideData)
	}
	for i := range t.keys {
		t.keys[i].class = d.byte()
	}
	for i := range t.keys {
		t.keys[i].version = uint32(d.int(1<<32 - 1))
		if i > 0 && t.keys[i-1].compare(t.keys[i]) >= 0 || t.keys[i].class > classDerived {
			return nil, corrupt("table: column %q is out of place", t.keys[i].name)
		}
	}
	t.modes = d.take(cols)
	t.presence = make([]int, cols)
	for i := range t.presence {
		t.presence[i] = int(d.int(maxSideData))
	}
	if d.bad {
		return nil, corrupt("table: names of columns")
	}
	var rest []byte
	if t.infos, rest, err = column.ParseInfos(d.b); err != nil {
		return nil, err
	}
	if len(t.infos) != cols || len(rest) > 0 {
		return nil, corrupt("table: %d columns of %d, %d bytes behind them", len(t.infos), cols, len(rest))
	}
	for i := range t.infos {
		if t.infos[i].ID != uint32(i) || t.infos[i].Kind == column.Signed {
			return nil, corrupt("table: column %d of %v", t.infos[i].ID, t.infos[i].Kind)
		}
		if t.modes[i] == presentSlot && version < slotsVersion {
			return nil, corrupt("table of version %d: values that are in lines", version)
		}
	}
	t.opened = make([]*tableValues, cols)
	t.memory = len(b) + 2*len(dir) + 256*cols + 8*len(t.frames) + 512
	return t, t.checkFrames(int64(limit), total+int64(cols)*int64(5*templates+tableHead))
}

// tableHead is what a column may take that is not by its values.
const tableHead = 64

// checkFrames finds how far the columns reach in each frame, which is what it may hold, and
// checks that and what all of them may hold together.
func (t *table) checkFrames(limit, total int64) error {
	t.reach = make([]int64, len(t.frames))
	for i := range t.infos {
		c := &t.infos[i]
		size := int64(t.presence[i]) + int64(c.Size)
		if size == 0 {
			continue
		}
		if int(c.Frame) >= len(t.frames) {
			return corrupt("frame %d of %d", c.Frame, len(t.frames))
		}
		reach := &t.reach[c.Frame]
		end := max(*reach, int64(c.Offset)+size)
		total -= end - *reach
		if *reach = end; end > limit || total < 0 {
			return corrupt("frames of more bytes than the values of %d columns may take", len(t.infos))
		}
	}
	return nil
}

// memorySize is about how many bytes of memory the table takes so far.
func (t *table) memorySize() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.memory
}

func (t *table) column(i int) (*tableValues, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened[i] == nil {
		v, err := t.open(i)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", t.keys[i].name, err)
		}
		t.opened[i] = v
		t.memory += v.values.MemorySize() + 4*len(v.rows) + 4*len(v.of)
	}
	return t.opened[i], nil
}

func (t *table) open(i int) (*tableValues, error) {
	c, p := &t.infos[i], t.presence[i]
	var payload []byte
	if size := uint64(p) + uint64(c.Size); size > 0 {
		f := t.frames[c.Frame]
		if f == nil {
			var err error
			if f, err = column.ReadFrame(t.data[t.offsets[c.Frame]:t.offsets[c.Frame+1]], int(t.reach[c.Frame])); err != nil {
				return nil, err
			}
			t.frames[c.Frame] = f
			t.memory += len(f)
		}
		if uint64(c.Offset)+size > uint64(len(f)) {
			return nil, corrupt("%d bytes at %d in a frame of %d", size, c.Offset, len(f))
		}
		payload = f[c.Offset : uint64(c.Offset)+size]
	}
	v := &tableValues{}
	if c.N < 1 || c.N > max(t.n, t.templates) {
		return nil, corrupt("%d values for %d rows", c.N, t.n)
	}
	present := payload[:p]
	switch t.modes[i] {
	case presentAll:
		if c.N != t.n || p != 0 {
			return nil, corrupt("%d values for %d rows", c.N, t.n)
		}
	case presentBitmap:
		rows, err := setBits(present, t.n, c.N)
		if err != nil {
			return nil, err
		}
		v.rows = rows
	case presentList:
		if c.N > p {
			return nil, corrupt("%d rows in %d bytes", c.N, p)
		}
		d := decoder{b: present}
		v.rows = make([]uint32, c.N)
		row := int64(0)
		for k := range v.rows {
			gap := d.int(int64(t.n))
			row += gap
			if k > 0 && gap == 0 || row >= int64(t.n) {
				d.bad = true
			}
			v.rows[k] = uint32(row)
		}
		if d.bad || len(d.b) > 0 {
			return nil, corrupt("rows that have a value")
		}
	case presentTemplate:
		if t.keys[i].class != classDerived || p > (t.templates+7)/8 {
			return nil, corrupt("values of %d templates by %d bytes", t.templates, p)
		}
		set, err := setBits(present, min(8*p, t.templates), c.N)
		if err != nil {
			return nil, err
		}
		v.of = make([]int32, t.templates)
		for k := range v.of {
			v.of[k] = -1
		}
		for k, tmpl := range set {
			v.of[tmpl] = int32(k)
		}
	case presentSlot:
		return v, t.openSlots(v, c, payload[:p])
	default:
		return nil, corrupt("presence of kind %d", t.modes[i])
	}
	var err error
	v.values, err = column.Open(c, payload[p:])
	return v, err
}
