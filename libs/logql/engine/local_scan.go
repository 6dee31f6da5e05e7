package engine

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/model"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

const (
	scanRows  = 1024      // rows of a ScanRows
	scanBytes = 256 << 10 // bytes of its lines, roughly
	// scanBudget is how many rows a cursor examines before others get a turn.
	scanBudget = 16 << 10
	// atOnce is how many rows go through a pipeline before a query may be stopped: one
	// may take a millisecond for each.
	atOnce = 32
	// scanPatience is how long rows wait for a ScanRows to fill.
	scanPatience = 200 * time.Millisecond
)

// Scan merges the streams by time, then by labels.
func (s *localSession) Scan(ctx context.Context, req ScanRequest, yield func(*ScanRows) error) (ScanStats, error) {
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return ScanStats{}, err
	}
	sel := s.selection(plan, req.Identity)
	sc := &scan{session: s, selection: sel, req: &req, prog: sel.prog, yield: yield}
	if ok, err := sc.addAll(ctx); err != nil {
		return ScanStats{}, err
	} else if ok {
		return sc.run(ctx)
	}
	tasks, err := s.tasks(req.Streams, req.Ranges, req.Start, req.End)
	if err != nil {
		return ScanStats{}, err
	}
	sc.waiting, sc.tasks = make([]waiting, 0, len(tasks)), make([]scanTask, 0, len(tasks))
	for _, t := range tasks {
		sc.add(t)
	}
	return sc.run(ctx)
}

type scan struct {
	session   *localSession
	selection *selection
	waiting   []waiting // tasks that have no cursor yet, a heap by bound and stream
	tasks     []scanTask
	ranges    []TimeRange // of tasks that are not there
	runs      []Run       // a buffer
	first     int         // rows of a stream that are as many as the limit leaves for it, about; 0: no limit
	req       *ScanRequest
	prog      *program
	yield     func(*ScanRows) error
	heap      []*cursor // by bound and stream
	out       ScanRows
	in        rowInterner
	counted   int
	stats     ScanStats
	live      *live
	told      ScanStats // what live knows
	flushed   time.Time
	distinct  distinctRows
	held      holder
	batches   map[*model.Rows]*heldBatch
}

// waiting is a task that is not begun.
type waiting struct {
	bound        int64
	stream, task int32 // task: its number in scan.tasks, -1: all rows of the stream
}

type scanTask struct {
	task
	behind *model.OrderKey // rows up to it are dropped
}

// add notes a task, if it can have rows.
func (sc *scan) add(t task) {
	w := scanTask{task: t}
	bound := int64(0)
	if a := sc.req.After; a != nil {
		key, from, to := a.narrow(sc.session.labelsOf(t.stream), sc.req.Backward)
		if !sc.req.Identity {
			w.behind = key
		}
		if from > t.ranges[0].Start || to < t.ranges[len(t.ranges)-1].End {
			w.ranges = clip(t.ranges, from, to)
		}
	}
	// The runs tell where the first row can be at best.
	found := false
	runs := sc.session.runsOf(&sc.runs, t.stream)
	for _, tr := range w.ranges {
		for _, r := range runs {
			if r.MaxTime < tr.Start || r.MinTime >= tr.End {
				continue
			}
			at := max(r.MinTime, tr.Start)
			if sc.req.Backward {
				at = min(r.MaxTime, tr.End-1)
			}
			if !found || (at > bound) == sc.req.Backward {
				bound, found = at, true
			}
		}
	}
	if found {
		sc.waiting = append(sc.waiting, waiting{bound, int32(t.stream), int32(len(sc.tasks))})
		sc.tasks = append(sc.tasks, w)
	}
}

// narrow returns the times at which rows of a stream can follow, and the key
// behind which they do at the time of a, if the stream is that of a.
func (a *After) narrow(labels model.Labels, backward bool) (key *model.OrderKey, from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	c := labels.Compare(a.Stream)
	if c == 0 {
		key = &a.Key
	}
	switch {
	case !backward && c < 0:
		from = a.Key.Time + 1
	case !backward:
		from = a.Key.Time
	case c > 0:
		to = a.Key.Time
	default:
		to = a.Key.Time + 1
	}
	return key, from, to
}

func clip(ranges []TimeRange, from, to int64) []TimeRange {
	var out []TimeRange
	for _, r := range ranges {
		if r = (TimeRange{max(r.Start, from), min(r.End, to)}); r.Start < r.End {
			out = append(out, r)
		}
	}
	return out
}

// begin makes cursors of the tasks whose rows may come before those of the others.
func (sc *scan) begin(ctx context.Context) error {
	for len(sc.waiting) > 0 {
		w := sc.waiting[0]
		if len(sc.heap) > 0 && sc.order(sc.heap[0].bound, sc.heap[0].stream, w.bound, int(w.stream)) {
			return nil
		}
		if err := sc.held.reserve(cursorSize); err != nil {
			return err
		}
		n := len(sc.waiting) - 1
		sc.waiting[0] = sc.waiting[n]
		sc.waiting = sc.waiting[:n]
		heapDown(sc.waiting, 0, sc.sooner)
		t := sc.taskOf(w)
		src := sc.selection.rows(ctx, t.task, t.ranges, sc.req.Backward)
		src.first = sc.first
		sc.push(&cursor{ctx: ctx, src: src, stream: t.stream, after: t.behind, bound: w.bound})
	}
	return nil
}

func (sc *scan) run(ctx context.Context) (ScanStats, error) {
	sc.in.mem, sc.live, sc.flushed = memoryOf(ctx), liveOf(ctx), time.Now()
	defer sc.in.release()
	sc.held.mem = sc.in.mem
	defer sc.held.release()
	if err := sc.held.reserve(waitingSize*cap(sc.waiting) + scanTaskSize*cap(sc.tasks)); err != nil {
		return sc.stats, err
	}
	if n := len(sc.waiting); n > 0 && sc.req.Limit > 0 {
		sc.first = max(1, sc.req.Limit/n)
	}
	for i := len(sc.waiting)/2 - 1; i >= 0; i-- {
		heapDown(sc.waiting, i, sc.sooner)
	}
	for turn := 0; ; turn++ {
		if err := sc.begin(ctx); err != nil {
			return sc.stats, err
		}
		if len(sc.heap) == 0 {
			break
		}
		if turn%1024 == 0 && ctx.Err() != nil {
			return sc.stats, context.Cause(ctx)
		}
		c := sc.heap[0]
		if !c.ready {
			if err := sc.fill(ctx); err != nil {
				return sc.stats, err
			}
			continue
		}
		if err := sc.emit(c); err != nil {
			return sc.stats, err
		}
		if sc.req.Limit > 0 && sc.counted >= sc.req.Limit {
			if err := sc.finishGroup(c); err != nil {
				return sc.stats, err
			}
			break
		}
		c.advance()
		if err := sc.settle(c); err != nil {
			return sc.stats, err
		}
		sc.fix()
	}
	for _, c := range sc.heap {
		sc.take(c)
	}
	return sc.stats, sc.flush()
}

// finishGroup emits the rows that have the time and stream of the one that c
// stands before, if they are to be united with those of another source.
func (sc *scan) finishGroup(c *cursor) error {
	time := c.bound
	for sc.req.Identity && c.bound == time {
		c.advance()
		if err := sc.settle(c); err != nil || c.done {
			return err
		}
		if c.ready && c.bound == time {
			if err := sc.emit(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill advances the first cursors that are not ready, several at a time.
func (sc *scan) fill(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Rows that were found must not wait for ever for others to come.
	if len(sc.out.Times) > 0 && time.Since(sc.flushed) > scanPatience {
		if err := sc.flush(); err != nil {
			return err
		}
	}
	var batch []*cursor
	for len(sc.heap) > 0 && !sc.heap[0].ready && len(batch) < sc.session.workers {
		batch = append(batch, sc.pop())
		if err := sc.begin(ctx); err != nil {
			return err
		}
	}
	for _, c := range batch {
		if c.proc == nil {
			c.proc = sc.prog.forStream(sc.session.labelsOf(c.stream))
		}
	}
	spread(len(batch), func(i int) { batch[i].advance() })
	for _, c := range batch {
		if err := sc.settle(c); err != nil {
			return err
		}
		if c.done {
			sc.held.give(cursorSize)
			continue
		}
		sc.push(c)
	}
	sc.report()
	return nil
}

func (sc *scan) take(c *cursor) {
	if c.stats == (ScanStats{}) {
		return
	}
	sc.stats.Add(c.stats)
	c.stats = ScanStats{}
}

func (sc *scan) settle(c *cursor) error {
	sc.take(c)
	if c.rows != c.counted {
		if err := sc.hold(c); err != nil {
			return err
		}
	}
	return c.err
}

// report tells the query what was read since it was told last.
func (sc *scan) report() {
	sc.live.add(sc.stats.minus(sc.told))
	sc.told = sc.stats
}

// setOf returns the number of the label set of the row that c stands before.
func (sc *scan) setOf(c *cursor) (uint32, error) {
	if !sc.prog.plain() {
		return sc.in.id(c.stream, c.proc)
	}
	// Metadata alone decides.
	c.key = pipeline.AppendKey(c.key[:0], c.meta.buf)
	if id, ok := c.sets[string(c.key)]; ok {
		return id, nil
	}
	id, err := sc.in.id(c.stream, c.proc)
	if c.sets == nil || len(c.sets) >= 1024 {
		c.sets = map[string]uint32{}
	}
	c.sets[string(c.key)] = id
	return id, err
}

// emit adds the row that c stands before.
func (sc *scan) emit(c *cursor) error {
	o := &sc.out
	set, err := sc.setOf(c)
	if err != nil {
		return err
	}
	if len(sc.req.Distinct) > 0 && sc.distinct.seen(set, &sc.in.sets[set], sc.req.Distinct) {
		return nil
	}
	o.Labels = sc.in.sets
	o.Sets = append(o.Sets, set)
	key := c.rows.Key(c.row)
	o.Times = append(o.Times, key.Time)
	o.BatchTimes = append(o.BatchTimes, key.BatchTime)
	o.Positions = append(o.Positions, key.Position)
	if sc.prog.metric() {
		o.Values = append(o.Values, c.value)
	} else {
		o.Lines.Append(c.line)
	}
	if sc.req.Identity || !sc.prog.metric() {
		h := key.Hash
		if c.rows.Hashes == nil {
			h = c.rows.Hash(c.row)
		}
		o.Hashes = append(o.Hashes, h)
	}
	if a := sc.req.After; !sc.req.Identity || a == nil || key.Time != a.Key.Time || !sc.session.labelsOf(c.stream).Equal(a.Stream) {
		sc.counted++
	}
	if len(o.Times) >= scanRows || len(o.Lines.Slab) >= scanBytes {
		return sc.flush()
	}
	return nil
}

func (sc *scan) flush() error {
	o := &sc.out
	sc.report()
	sc.flushed = time.Now()
	if len(o.Times) == 0 {
		return nil
	}
	if err := sc.yield(o); err != nil {
		return err
	}
	o.reset()
	return nil
}

// reset takes the rows out; label sets stay.
func (o *ScanRows) reset() {
	o.Sets, o.Times, o.Values = o.Sets[:0], o.Times[:0], o.Values[:0]
	o.Hashes, o.BatchTimes, o.Positions = o.Hashes[:0], o.BatchTimes[:0], o.Positions[:0]
	o.Lines.Ends, o.Lines.Slab = o.Lines.Ends[:0], o.Lines.Slab[:0]
}

// appendSetKey appends what tells the label sets of rows apart.
func appendSetKey(key []byte, stream int, parts ...[]model.Label) []byte {
	key = append(key, byte(stream), byte(stream>>8), byte(stream>>16), byte(stream>>24))
	for i, p := range parts {
		if i > 0 {
			key = append(key, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		}
		key = pipeline.AppendKey(key, p)
	}
	return key
}

// rowInterner numbers the label sets of a scan's rows.
type rowInterner struct {
	ids  map[string]uint32
	sets []RowLabels
	key  []byte
	buf  []model.Label
	mem  *Memory
	held int
}

// id returns the number of the label set of the row that p processed last.
func (in *rowInterner) id(stream int, p *processor) (uint32, error) {
	buf, a, b := p.appendLabels(in.buf[:0])
	in.buf = buf
	key := appendSetKey(in.key[:0], stream, buf[:a], buf[a:b], buf[b:])
	in.key = key
	if id, ok := in.ids[string(key)]; ok {
		return id, nil
	}
	size := 2*len(key) + 32*len(buf) + 128
	if err := in.mem.Reserve(size); err != nil {
		return 0, err
	}
	in.held += size
	if in.ids == nil {
		in.ids = map[string]uint32{}
	}
	id := uint32(len(in.sets))
	in.ids[string(key)] = id
	kept := cloneLabels(buf)
	in.sets = append(in.sets, RowLabels{Stream: stream, Labels: kept[:a:a], Metadata: slices.Clip(kept[a:b:b]), Parsed: kept[b:]})
	return id, nil
}

func (in *rowInterner) release() { in.mem.Release(in.held) }
