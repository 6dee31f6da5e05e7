package head

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// Chunks are made for streams with many rows: one takes as much memory as some rows, and
// is a dozen objects. Where there are very many streams most have few rows, and so the
// first rows of each lie in an arena among those of the tenant's other streams.
const (
	// fewRowsMax is how many rows of a stream are there at most.
	fewRowsMax = 24
	// fewBytes bounds what comes there at once, lines and metadata.
	fewBytes = 8 << 10
	// fewColumns likewise: rows are put together with the columns of all of them.
	fewColumns = 8
	// arenaNames bounds the names of metadata that an arena has numbers for.
	arenaNames = 4096
)

const (
	arenaPage  = 64 << 10 // bytes of lines and metadata
	arenaGroup = 512      // records of a page
	// grownPages of an arena grow, for there may be many tenants with little each; those
	// behind are made as large as they become.
	grownPages = 4
)

// arena holds rows of many streams, in the order in which they came, without a pointer
// in them. It may be used by several goroutines.
type arena struct {
	most int // rows of a stream, at most fewRowsMax

	mu      sync.RWMutex // guards everything below
	records [][]record
	bytes   [][]byte
	appends []arrival
	names   []arenaName
	numbers map[arenaName]uint32 // one more than the place in names
	scratch []byte
}

// record is a row but for its bytes: the line, and behind it the metadata.
type record struct {
	time     int64
	hash     uint64
	at       uint64 // page<<32 | offset
	line     uint32 // bytes
	meta     uint32 // bytes
	arrival  uint32 // place in appends
	position uint32
	before   uint32 // one more than the number of the stream's record before; 0: none
}

const recordCost = 48

// arrival is what rows have in common that one append brought.
type arrival struct {
	batchTime int64
	seq       uint64
}

type arenaName struct {
	name    string
	derived bool
	version uint32
}

// firstRows is the rows of a stream that are in an arena. The mutex of the stream guards it;
// a copy stays what it was but for places that lower has lowered.
type firstRows struct {
	arena  *arena
	last   uint32 // one more than the number of the newest record; 0: none
	n      uint16
	newest int64 // the largest time
}

// takes reports whether rows may come here, where most may be.
func (f *firstRows) takes(src *model.Rows, most int) bool {
	return int(f.n)+src.Len() <= most && fewSize(src) <= fewBytes && len(src.Metadata)+len(src.Derived) <= fewColumns
}

func fewSize(src *model.Rows) int {
	size := len(src.Lines.Slab)
	for _, set := range [][]model.Column{src.Metadata, src.Derived} {
		for i := range set {
			size += len(set[i].Values.Slab)
		}
	}
	return size
}

// add appends the rows of src that are not there yet, and returns how many, and the bytes
// they take. ok is false, and nothing was added, if there are too many names.
func (f *firstRows) add(src *model.Rows, batchTime int64, seq uint64) (added, size int, ok bool) {
	a := f.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids [fewColumns]uint32
	k := 0
	for _, set := range [][]model.Column{src.Metadata, src.Derived} {
		for i := range set {
			id, cost := a.number(arenaName{set[i].Name, k >= len(src.Metadata), set[i].Version})
			if size += cost; id == 0 {
				return 0, size, false
			}
			ids[k] = id
			k++
		}
	}
	for i := range src.Times {
		key := model.OrderKey{Time: src.Times[i], BatchTime: batchTime, Position: src.Positions[i], Hash: src.Hashes[i]}
		if f.n > 0 && key.Time <= f.newest {
			if r := f.find(key, src, i); r != nil {
				size += a.lower(r, key)
				continue
			}
		}
		if n := len(a.appends); n == 0 || a.appends[n-1] != (arrival{batchTime, seq}) {
			a.appends = append(a.appends, arrival{batchTime, seq})
			size += runCost
		}
		r := record{
			time: key.Time, hash: key.Hash, arrival: uint32(len(a.appends) - 1), position: key.Position, before: f.last,
		}
		size += recordCost + a.put(&r, src, i, &ids)
		f.last = a.append(r)
		if f.n++; f.n == 1 || key.Time > f.newest {
			f.newest = key.Time
		}
		added++
	}
	return added, size, true
}

// maxCost is the most that rows can take here.
func (a *arena) maxCost(src *model.Rows) int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	size, k := fewSize(src)+src.Len()*recordCost, 0
	if src.Copies != nil {
		size += src.Len() * valueCost
	}
	for _, set := range [][]model.Column{src.Metadata, src.Derived} {
		for i := range set {
			size += set[i].Values.Len() * valueCost
			if a.known(arenaName{set[i].Name, k >= len(src.Metadata), set[i].Version}) == 0 {
				size += columnCost + len(set[i].Name)
			}
			k++
		}
	}
	return int64(size)
}

// number returns the number of a name, 0 if there are too many, and what it costs.
func (a *arena) number(n arenaName) (id uint32, cost int) {
	if id = a.known(n); id != 0 || len(a.names) >= arenaNames {
		return id, 0
	}
	if a.numbers == nil {
		a.numbers = map[arenaName]uint32{}
	}
	a.names = append(a.names, n)
	a.numbers[n] = uint32(len(a.names))
	return uint32(len(a.names)), columnCost + len(n.name)
}

// firstNames is how many names are compared before the others are looked up.
const firstNames = 4

// known returns the number of a name, 0 if it has none.
func (a *arena) known(n arenaName) uint32 {
	for i := range a.names[:min(firstNames, len(a.names))] {
		if a.names[i] == n {
			return uint32(i + 1)
		}
	}
	if len(a.names) <= firstNames {
		return 0
	}
	return a.numbers[n]
}

// put stores the bytes of row i, and returns how many.
func (a *arena) put(r *record, src *model.Rows, i int, ids *[fewColumns]uint32) int {
	meta := a.scratch[:0]
	if c := src.Copy(i); c != 0 {
		meta = binary.AppendUvarint(append(meta, 0), uint64(c))
	}
	k := 0
	for _, set := range [][]model.Column{src.Metadata, src.Derived} {
		for c := range set {
			if v := set[c].At(i); len(v) > 0 {
				meta = binary.AppendUvarint(meta, uint64(ids[k]))
				meta = binary.AppendUvarint(meta, uint64(len(v)))
				meta = append(meta, v...)
			}
			k++
		}
	}
	a.scratch = meta
	line := src.Lines.At(i)
	r.line, r.meta = uint32(len(line)), uint32(len(meta))
	n := len(a.bytes)
	if n == 0 || len(a.bytes[n-1])+len(line)+len(meta) > arenaPage {
		var page []byte
		if n >= grownPages {
			page = make([]byte, 0, arenaPage)
		}
		a.bytes = append(a.bytes, page)
		n++
	}
	p := a.bytes[n-1]
	r.at = uint64(n-1)<<32 | uint64(len(p))
	if need := len(p) + len(line) + len(meta); need > cap(p) {
		p = append(make([]byte, 0, max(need, min(cap(p)+cap(p)/4, arenaPage))), p...)
	}
	a.bytes[n-1] = append(append(p, line...), meta...)
	return len(line) + len(meta)
}

// append adds a record and returns one more than its number.
func (a *arena) append(r record) uint32 {
	n := len(a.records)
	if n == 0 || len(a.records[n-1]) == arenaGroup {
		var page []record
		if n >= grownPages {
			page = make([]record, 0, arenaGroup)
		}
		a.records = append(a.records, page)
		n++
	}
	a.records[n-1] = append(a.records[n-1], r)
	return uint32((n-1)*arenaGroup + len(a.records[n-1]))
}

func (a *arena) record(number uint32) *record {
	return &a.records[(number-1)/arenaGroup][(number-1)%arenaGroup]
}

func (a *arena) key(r *record) model.OrderKey {
	return model.OrderKey{Time: r.time, BatchTime: a.appends[r.arrival].batchTime, Position: r.position, Hash: r.hash}
}

// lower gives a row the smaller of its place and that of a copy, and returns what that
// takes.
func (a *arena) lower(r *record, key model.OrderKey) (size int) {
	if key.Compare(a.key(r)) >= 0 {
		return 0
	}
	// Who brought the row stays the same, only when its batch was made does not.
	seq := a.appends[r.arrival].seq
	n := len(a.appends)
	if low := (arrival{key.BatchTime, seq}); n == 0 || a.appends[n-1] != low {
		a.appends = append(a.appends, low)
		size = runCost
	}
	r.arrival, r.position = uint32(len(a.appends)-1), key.Position
	return size
}

// find returns the record of row i of src, if it is there. It is called with the arena's
// lock held.
func (f *firstRows) find(key model.OrderKey, src *model.Rows, i int) *record {
	for at := f.last; at != 0; {
		r := f.arena.record(at)
		if r.hash == key.Hash && r.time == key.Time {
			var row model.Rows
			f.arena.appendRow(&row, r)
			if row.SameEntry(0, src, i) {
				return r
			}
		}
		at = r.before
	}
	return nil
}

// lower is find, and lowers what is found.
func (f *firstRows) lower(key model.OrderKey, src *model.Rows, i int) (size int, found bool) {
	if f.n == 0 || key.Time > f.newest {
		return 0, false
	}
	f.arena.mu.Lock()
	defer f.arena.mu.Unlock()
	if r := f.find(key, src, i); r != nil {
		return f.arena.lower(r, key), true
	}
	return 0, false
}

// max returns the largest key. There must be rows.
func (f *firstRows) max() model.OrderKey {
	f.arena.mu.RLock()
	defer f.arena.mu.RUnlock()
	var out model.OrderKey
	for at := f.last; at != 0; {
		r := f.arena.record(at)
		if key := f.arena.key(r); at == f.last || key.Compare(out) > 0 {
			out = key
		}
		at = r.before
	}
	return out
}

// addTo adds the rows with start <= time < end to a set, and tells whether there are any,
// and whether the time between the first and the last row touches that interval.
func (f *firstRows) addTo(set *runSet, start, end int64) (any, touched bool) {
	if f.n == 0 || f.newest < start {
		return false, false
	}
	f.arena.mu.RLock()
	defer f.arena.mu.RUnlock()
	oldest := f.newest
	for at := f.last; at != 0; {
		r := f.arena.record(at)
		oldest = min(oldest, r.time)
		if r.time >= start && r.time < end {
			any = true
			set.add(engine.Run{MinTime: r.time, MaxTime: r.time, Rows: 1, Bytes: uint64(r.line), Digest: r.hash})
		}
		at = r.before
	}
	return any, oldest < end
}

// eachTime calls yield with the time of each row.
func (f *firstRows) eachTime(yield func(t int64)) {
	f.arena.mu.RLock()
	defer f.arena.mu.RUnlock()
	for at := f.last; at != 0; {
		r := f.arena.record(at)
		yield(r.time)
		at = r.before
	}
}

// appendTo appends the rows with start <= time < end to dst, ascending by order key.
func (f *firstRows) appendTo(dst *model.Rows, start, end int64) {
	if f.n == 0 {
		return
	}
	f.arena.mu.RLock()
	defer f.arena.mu.RUnlock()
	var buf [fewRowsMax]*record
	all := buf[:0]
	for at := f.last; at != 0; {
		r := f.arena.record(at)
		all, at = append(all, r), r.before
	}
	f.arena.appendRows(dst, all, start, end)
}

// together is how many streams gather finds the rows of at once.
const together = 32

// gathered is the records of some streams, the newest of each at the front.
type gathered [together][]*record

// gather finds the first rows of up to together streams, which get no more. Each step to
// another row, and the first look at what it holds, waits for memory: those of all streams
// wait at the same time.
func (a *arena) gather(into *gathered, streams []*stream) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var next [together]uint32
	for i, s := range streams {
		into[i], next[i] = into[i][:0], s.few.last
	}
	sum := byte(0)
	for more := true; more; {
		more = false
		for i := range streams {
			if next[i] == 0 {
				continue
			}
			r := a.record(next[i])
			into[i], next[i], more = append(into[i], r), r.before, true
			if b := a.bytes[r.at>>32]; int(uint32(r.at)) < len(b) {
				sum += b[uint32(r.at)]
			}
		}
	}
	runtime.KeepAlive(sum)
}

// appendRows appends those of a stream's rows, the newest at the front, with start <= time <
// end, ascending by order key. It is called with the lock held.
func (a *arena) appendRows(dst *model.Rows, all []*record, start, end int64) {
	var buf [fewRowsMax]*record
	list := buf[:0]
	sorted, lines := true, 0
	for _, r := range all {
		if r.time >= start && r.time < end {
			sorted = sorted && (len(list) == 0 || r.time < list[len(list)-1].time)
			list = append(list, r)
			lines += int(r.line)
		}
	}
	if sorted {
		slices.Reverse(list) // the newest is at the front
	} else {
		slices.SortFunc(list, func(x, y *record) int { return a.key(x).Compare(a.key(y)) })
	}
	dst.Lines.Slab = slices.Grow(dst.Lines.Slab, lines)
	for _, r := range list {
		a.appendRow(dst, r)
	}
}

// appendRow appends a row. It is called with the lock held.
func (a *arena) appendRow(dst *model.Rows, r *record) {
	n := dst.Len()
	b := a.bytes[r.at>>32][uint32(r.at):]
	dst.Times = append(dst.Times, r.time)
	dst.Lines.Append(b[:r.line])
	dst.Hashes = append(dst.Hashes, r.hash)
	dst.BatchTimes = append(dst.BatchTimes, a.appends[r.arrival].batchTime)
	dst.Positions = append(dst.Positions, r.position)
	if dst.Copies != nil {
		dst.Copies = append(dst.Copies, 0)
	}
	for meta := b[r.line : r.line+r.meta]; len(meta) > 0; {
		id, k := binary.Uvarint(meta)
		size, l := binary.Uvarint(meta[k:])
		meta = meta[k+l:]
		if id == 0 {
			for len(dst.Copies) <= n {
				dst.Copies = append(dst.Copies, 0)
			}
			dst.Copies[n] = uint32(size)
			continue
		}
		name := &a.names[id-1]
		set := &dst.Metadata
		if name.derived {
			set = &dst.Derived
		}
		*set = appendValue(*set, name, n, meta[:size])
		meta = meta[size:]
	}
	for _, set := range [][]model.Column{dst.Metadata, dst.Derived} {
		for k := range set {
			set[k].Finish(n + 1)
		}
	}
}

// appendValue appends the value of row n.
func appendValue(dst []model.Column, name *arenaName, n int, v []byte) []model.Column {
	at, found := 0, false
	for at < len(dst) && !found && dst[at].Name <= name.name {
		if found = dst[at].Name == name.name; !found {
			at++
		}
	}
	if !found {
		dst = slices.Insert(dst, at, model.Column{Name: name.name, Version: name.version})
	}
	dst[at].Append(n, v)
	dst[at].Version = max(dst[at].Version, name.version)
	return dst
}

// readRows is appendRows for those who do not hold mu.
func (a *arena) readRows(dst *model.Rows, all []*record, start, end int64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.appendRows(dst, all, start, end)
}

// since appends what appends with after < seq <= upto brought.
func (f *firstRows) since(out []Appended, labels model.Labels, after, upto uint64) []Appended {
	if f.n == 0 {
		return out
	}
	a := f.arena
	a.mu.RLock()
	defer a.mu.RUnlock()
	var list []*record
	for at := f.last; at != 0; {
		r := a.record(at)
		if seq := a.appends[r.arrival].seq; seq > after && seq <= upto {
			list = append(list, r)
		}
		at = r.before
	}
	slices.Reverse(list)
	for len(list) > 0 {
		seq := a.appends[list[0].arrival].seq
		rows, n := &model.Rows{}, 0
		for n < len(list) && a.appends[list[n].arrival].seq == seq {
			a.appendRow(rows, list[n])
			n++
		}
		out = append(out, Appended{labels, seq, rows, 0, n})
		list = list[n:]
	}
	return out
}
