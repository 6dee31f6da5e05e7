package weirctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
)

// exported is an entry in a file: one JSON object a line. The names are a contract.
type exported struct {
	Timestamp time.Time         `json:"timestamp"`
	Labels    map[string]string `json:"labels"`
	Line      *string           `json:"line,omitempty"`
	Base64    []byte            `json:"line_base64,omitempty"` // a line that is not UTF-8
	Metadata  map[string]string `json:"structured_metadata,omitempty"`
	Copy      uint32            `json:"copy,omitempty"`
}

// setLine sets the line; JSON cannot hold what is not UTF-8.
func (x *exported) setLine(line []byte) {
	if utf8.Valid(line) {
		text := string(line)
		x.Line = &text
		return
	}
	x.Base64 = line
}

// derivedName is the metadata that servers derive. A server does not tell it from
// metadata that was sent, the store does.
const derivedName = "detected_level"

type exportOptions struct {
	env    *Env
	server server
	store  store
	span   span
	page   uint32
	// partial: go on without what cannot be read.
	partial bool

	out     *bufio.Writer
	enc     *json.Encoder
	count   uint64
	missing map[string]bool // what was told to be missing
}

func exportCommand(env *Env) *command {
	o := &exportOptions{env: env}
	fs := pflag.NewFlagSet("export", pflag.ContinueOnError)
	o.span.register(fs, env)
	o.store.register(fs, env, &o.server, ", instead of asking a server")
	fs.BoolVar(&o.partial, "partial", false, "go on without what cannot be read; it is told, and the exit code is 1")
	fs.Uint32Var(&o.page, "page-size", 5000, "most entries to ask a server for at a time")
	o.server.register(fs, env, 0, "how long the command may take")
	return &command{
		name: "export", args: "[QUERY]", nargs: [2]int{0, 1}, flags: fs,
		short: "write entries to standard output, to be imported",
		long: `Write the entries of a tenant and a range of time that QUERY keeps, a selector
with filters, as JSON, one object a line: timestamp, labels, line (or line_base64
for bytes that are not UTF-8), structured_metadata. Import takes them back.

From a server entries come in the order of time, and detected_level, which servers
derive, is left out. With --store blocks are read where they are: no server is
needed, entries come stream by stream, and without --since or --from all of them.
Entries that ingesters have not uploaded are not among them; entries that were
deleted are not, either; entries that retention has ended are as long as they are
stored.

An export that would not be complete fails: a block is damaged or lost, or cannot be
reached. With --partial it goes on with all other blocks.`,
		examples: []string{
			"A day of an application\nexport '{app=\"checkout\"}' --from 2026-03-01 --to 2026-03-02 > checkout.ndjson",
			"All of a tenant, without a server\nexport --store /var/lib/weir/objects --tenant team-a | zstd > team-a.ndjson.zst",
			"What is left of a damaged store\nexport --store /mnt/backup/objects --tenant team-a --partial > rest.ndjson",
		},
		run: o.run,
	}
}

// lacks says once that something cannot be exported.
func (o *exportOptions) lacks(what string) {
	if o.missing == nil {
		o.missing = map[string]bool{}
	}
	if !o.missing[what] {
		o.missing[what] = true
		warn(o.env.Stderr, []string{what})
	}
}

func (o *exportOptions) run(ctx context.Context, args []string) error {
	start, end, err := o.span.bounds()
	if err != nil {
		return err
	}
	query := ""
	if len(args) > 0 {
		query = args[0]
	}
	o.out = bufio.NewWriterSize(o.env.Stdout, 64<<10)
	o.enc = json.NewEncoder(o.out)
	o.enc.SetEscapeHTML(false)
	ctx, cancel := o.server.limit(ctx)
	defer cancel()
	if o.store.location == "" {
		if query == "" {
			return usagef(`export needs a query to ask a server, such as '{app=~".+"}', or --store`)
		}
		err = o.server.call(ctx, query, func(ctx context.Context, c *client.Client) error { return o.ask(ctx, c, query, start, end) })
	} else {
		from, to := start.UnixNano(), end.UnixNano()
		if !o.span.flags.Changed("since") && !o.span.flags.Changed("from") {
			from = math.MinInt64
			if !o.span.flags.Changed("to") {
				to = math.MaxInt64
			}
		}
		err = o.store.open(ctx, func(b objstore.Bucket) error { return o.server.translate(o.read(ctx, b, query, from, to), query) })
	}
	if flushed := o.out.Flush(); err == nil { // it repeats a failed write's error
		err = flushed
	}
	if err != nil {
		return err
	}
	if o.env.StderrTerminal {
		fmt.Fprintf(o.env.Stderr, "%s entries exported\n", formatCount(o.count))
	}
	if len(o.missing) > 0 {
		fmt.Fprintln(o.env.Stderr, "weirctl: the export is not complete")
		return errReported
	}
	return nil
}

func (o *exportOptions) write(x *exported) error {
	o.count++
	return o.enc.Encode(x)
}

// exportedAtOnce is the longest range that a server is asked for: servers limit it, to a
// month where they are not configured otherwise.
const exportedAtOnce = 7 * 24 * time.Hour

// ask exports from a server, one part of the range after the other.
func (o *exportOptions) ask(ctx context.Context, c *client.Client, query string, start, end time.Time) error {
	if o.page == 0 {
		return usagef("--page-size must be at least 1")
	}
	for ; end.Sub(start) > exportedAtOnce; start = start.Add(exportedAtOnce) {
		if err := o.askPart(ctx, c, query, start, start.Add(exportedAtOnce)); err != nil {
			return err
		}
	}
	return o.askPart(ctx, c, query, start, end)
}

func (o *exportOptions) askPart(ctx context.Context, c *client.Client, query string, start, end time.Time) error {
	req := &queryv1.QueryRangeRequest{
		Query: query, Start: timestamppb.New(start), End: timestamppb.New(end),
		Direction: queryv1.Direction_DIRECTION_FORWARD, Limit: o.page, Partial: o.partial,
	}
	for {
		before, next := o.count, ""
		for piece, err := range c.QueryStream(ctx, req) {
			if err != nil {
				return err
			}
			switch event := piece.GetEvent().(type) {
			case *queryv1.QueryStreamResponse_Streams:
				for s, e := range client.Merged(event.Streams.GetStreams(), req.GetDirection()) {
					x := exported{Timestamp: time.Unix(0, e.GetTimestampUnixNano()).UTC(), Labels: s.GetLabels()}
					for name, value := range e.GetStructuredMetadata() {
						if name == derivedName {
							continue
						}
						if x.Metadata == nil {
							x.Metadata = map[string]string{}
						}
						x.Metadata[name] = value
					}
					x.setLine(client.Line(e))
					if err := o.write(&x); err != nil {
						return err
					}
				}
			case *queryv1.QueryStreamResponse_Matrix:
				return usagef("export needs a log query, this is a metric query")
			case *queryv1.QueryStreamResponse_Done:
				for _, w := range event.Done.GetWarnings() {
					if !o.partial {
						return fmt.Errorf("the export would not be complete: %s", w)
					}
					o.lacks(w)
				}
				next = event.Done.GetNextCursor()
			}
		}
		if next == "" {
			return nil
		}
		if next == req.GetCursor() && o.count == before {
			return fmt.Errorf("the server's cursor does not move on: giving up after %d entries", o.count)
		}
		req.Cursor = next
	}
}

// read exports from the store: the union of blocks that share times, one group of
// them after the other.
func (o *exportOptions) read(ctx context.Context, bucket objstore.Bucket, query string, start, end int64) error {
	var sel *selection.Selection
	if query != "" {
		var err error
		if sel, err = selection.Parse(query); err != nil {
			return usagef("%v", err)
		}
	}
	_, snap, err := o.store.load(ctx, bucket)
	if err != nil {
		return err
	}
	for _, p := range snap.Problems(o.store.tenant(), start, end) {
		o.lacks(problemText(p))
	}
	if len(o.missing) > 0 && !o.partial {
		return errors.New("the export would not be complete")
	}
	set, err := tombstone.NewStore(bucket, o.env.Now, 0).Fresh(ctx, o.store.tenant())
	if err != nil {
		return err
	}
	var removes []compact.Remover
	for _, t := range set.All() {
		s, err := selection.Parse(t.Query)
		if err != nil {
			return err
		}
		removes = append(removes, deleted{t, s})
	}
	live := snap.Live(o.store.tenant(), start, end)
	for len(live) > 0 {
		n, last := 1, live[0].MaxTime
		for n < len(live) && live[n].MinTime <= last {
			last = max(last, live[n].MaxTime)
			n++
		}
		if err := o.union(ctx, bucket, live[:n], sel, removes, start, end); err != nil {
			return err
		}
		live = live[n:]
	}
	return nil
}

func (o *exportOptions) union(ctx context.Context, bucket objstore.Bucket, blocks []catalog.Block, sel *selection.Selection, removes []compact.Remover, start, end int64) error {
	var sources []compact.Source
	for _, b := range blocks {
		r, err := openBlock(ctx, bucket, b)
		if err == nil && o.partial {
			err = r.Verify(ctx) // what is found in the midst of a merge is found too late
		}
		var s *compact.BlockSource
		if err == nil {
			s, err = compact.NewBlockSource(r)
		}
		if err != nil && o.partial && ctx.Err() == nil {
			o.lacks(err.Error())
			continue
		}
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 {
		return nil
	}
	m, err := compact.NewMerge(sources, removes, false, block.Compare)
	if err != nil {
		return err
	}
	return m.Run(ctx, start, end, &exportWriter{o: o, sel: sel})
}

// deleted is a delete as a reason to leave entries out.
type deleted struct {
	*tombstone.Tombstone
	sel *selection.Selection
}

// Name implements compact.Remover.
func (d deleted) Name() string { return d.ID }

// ForStream implements compact.Remover.
func (d deleted) ForStream(ls model.Labels) compact.RowRemover {
	if !d.sel.Stream(ls) {
		return nil
	}
	return deletedRows{d.sel.ForStream(ls), d.Start, d.End}
}

type deletedRows struct {
	rows       *selection.Rows
	start, end int64
}

// Remove implements compact.RowRemover.
func (d deletedRows) Remove(rows *model.Rows, i int) bool {
	return rows.Times[i] >= d.start && rows.Times[i] < d.end && d.rows.Match(rows, i)
}

// exportWriter writes the rows of a merge.
type exportWriter struct {
	o      *exportOptions
	sel    *selection.Selection // nil: all
	labels model.Labels
	text   map[string]string
	match  *selection.Rows // nil: all of the stream
	none   bool            // of the stream
}

// Add implements compact.Writer.
func (w *exportWriter) Add(ls model.Labels, rows *model.Rows) error {
	if w.text == nil || !ls.Equal(w.labels) {
		w.labels, w.text, w.match = ls, ls.Map(), nil
		if w.none = w.sel != nil && !w.sel.Stream(ls); w.sel != nil && !w.none {
			w.match = w.sel.ForStream(ls)
		}
	}
	if w.none {
		return nil
	}
	for i := range rows.Len() {
		if w.match != nil && !w.match.Match(rows, i) {
			continue
		}
		x := exported{Timestamp: time.Unix(0, rows.Times[i]).UTC(), Labels: w.text, Copy: rows.Copy(i)}
		if pairs := rows.AppendMetadata(nil, i); len(pairs) > 0 {
			x.Metadata = model.Labels(pairs).Map()
		}
		x.setLine(rows.Lines.At(i))
		if err := w.o.write(&x); err != nil {
			return err
		}
	}
	return nil
}

// maxImported is the longest line of a file to import: an entry with its labels,
// escaped.
const maxImported = 16 << 20

type importOptions struct {
	env        *Env
	server     server
	batchLines int
	batchBytes int
	line       uint64 // of the file
	first      uint64 // of the batch
	stored     uint64
	refused    uint64
}

func importCommand(env *Env) *command {
	o := &importOptions{env: env}
	fs := pflag.NewFlagSet("import", pflag.ContinueOnError)
	fs.IntVar(&o.batchLines, "batch-lines", 5000, "most entries to send at a time")
	fs.IntVar(&o.batchBytes, "batch-bytes", 1<<20, "most bytes to send at a time")
	o.server.register(fs, env, 5*time.Minute, "how long to try to store a batch")
	return &command{
		name: "import", nargs: [2]int{0, 0}, flags: fs,
		short: "store entries that were exported",
		long: `Store the entries of standard input, one JSON object a line as export writes
them, with their timestamps. To import them again changes nothing: an entry is what
it says, and is stored once. The exit code is 0 only if every entry is stored.`,
		examples: []string{
			"A file\nimport < checkout.ndjson",
			"Into another tenant\nimport --tenant team-b < <(zstd -dc team-a.ndjson.zst)",
		},
		run: o.run,
	}
}

func (o *importOptions) run(ctx context.Context, _ []string) error {
	if o.batchLines < 1 || o.batchBytes < 1 {
		return usagef("--batch-lines and --batch-bytes must be at least 1")
	}
	c, err := o.server.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is in flight
	pusher := c.NewPusher(client.PusherOptions{Now: o.env.Now, OnRetry: o.server.tellRetry})
	err = o.all(ctx, pusher)
	if o.refused > 0 || err != nil || o.env.StderrTerminal {
		fmt.Fprintf(o.env.Stderr, "%s entries stored, %s refused\n", formatCount(o.stored), formatCount(o.refused))
	}
	switch {
	case err != nil:
		return o.server.translate(err, "")
	case o.refused > 0:
		return errReported
	}
	return nil
}

// all stores the entries of standard input.
func (o *importOptions) all(ctx context.Context, pusher *client.Pusher) error {
	var batch client.Batch
	in := bufio.NewReaderSize(o.env.Stdin, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := readLong(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("standard input, line %d: %w", o.line+1, err)
		}
		end := errors.Is(err, io.EOF)
		if len(bytes.TrimSpace(line)) > 0 || !end {
			o.line++
		}
		if len(bytes.TrimSpace(line)) > 0 {
			labels, e, err := parseExported(line)
			if err != nil {
				return errors.Join(o.send(ctx, pusher, &batch), fmt.Errorf("standard input, line %d: %w", o.line, err))
			}
			if batch.Len() == 0 {
				o.first = o.line
			}
			batch.AddEntry(labels, e)
		}
		if end || batch.Len() >= o.batchLines || batch.Size() >= o.batchBytes {
			if err := o.send(ctx, pusher, &batch); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// readLong reads a line of up to maxImported bytes.
func readLong(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxImported {
			return nil, fmt.Errorf("it is longer than %s", formatBytes(maxImported))
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// parseExported reads an entry. Other keys, such as those that query prints besides,
// are passed over.
func parseExported(line []byte) (map[string]string, *pushv1.Entry, error) {
	var x exported
	if err := json.Unmarshal(line, &x); err != nil {
		return nil, nil, err
	}
	switch ns := x.Timestamp.UnixNano(); {
	case x.Timestamp.IsZero():
		return nil, nil, errors.New("it has no timestamp")
	case !time.Unix(0, ns).Equal(x.Timestamp) || ns == 0:
		return nil, nil, fmt.Errorf("its timestamp %s cannot be stored", x.Timestamp.Format(time.RFC3339Nano))
	case len(x.Labels) == 0:
		return nil, nil, errors.New("it has no labels")
	case x.Line != nil && x.Base64 != nil:
		return nil, nil, errors.New("it has both line and line_base64")
	}
	e := &pushv1.Entry{TimestampUnixNano: x.Timestamp.UnixNano(), StructuredMetadata: x.Metadata, Copy: x.Copy}
	switch {
	case x.Line != nil:
		e.Line = &pushv1.Entry_Text{Text: *x.Line}
	case x.Base64 != nil:
		e.Line = &pushv1.Entry_Raw{Raw: x.Base64}
	default:
		return nil, nil, errors.New("it has no line")
	}
	return x.Labels, e, nil
}

// send stores a batch.
func (o *importOptions) send(ctx context.Context, pusher *client.Pusher, batch *client.Batch) error {
	if batch.Len() == 0 {
		return nil
	}
	req := batch.Take()
	limited, cancel := o.server.limit(ctx)
	defer cancel()
	r, err := pusher.Push(limited, req)
	o.stored += r.GetAcceptedEntries()
	shown := o.refused
	o.refused += r.GetRejectedEntries()
	for _, j := range r.GetRejections() {
		if shown++; shown <= maxRefusalsShown {
			at := time.Unix(0, entryTime(req, j)).UTC().Format(time.RFC3339Nano)
			warn(o.env.Stderr, []string{fmt.Sprintf("an entry of %s, among lines %d to %d, is refused: %s", at, o.first, o.line, j.GetMessage())})
		}
	}
	return err
}

func entryTime(req *pushv1.PushRequest, j *pushv1.Rejection) int64 {
	if int(j.GetStream()) >= len(req.GetStreams()) {
		return 0
	}
	entries := req.GetStreams()[j.GetStream()].GetEntries()
	if int(j.GetEntry()) >= len(entries) {
		return 0
	}
	return entries[j.GetEntry()].GetTimestampUnixNano()
}
