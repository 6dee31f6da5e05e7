package weirctl

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/objstore"
)

type blocksOptions struct {
	env    *Env
	server server
	store  store
	out    output
	hidden bool
	top    int
}

func blocksCommand(env *Env) *command {
	o := &blocksOptions{env: env}
	fs := pflag.NewFlagSet("blocks", pflag.ContinueOnError)
	o.store.register(fs, env, &o.server, ", instead of asking a server")
	fs.BoolVar(&o.hidden, "all", false, "list: blocks that others replace, too (needs --store)")
	fs.IntVar(&o.top, "streams", 10, "inspect: how many streams to show, the largest first")
	o.out.register(fs, false)
	o.server.register(fs, env, 0, "how long the command may take")
	return &command{
		name: "blocks", args: "list|inspect|verify|rebuild-index [BLOCK...]", nargs: [2]int{1, -1}, flags: fs,
		short: "look into the blocks of the object store",
		long: `Look into the blocks of a tenant. A BLOCK is an id or a key.

list           the live blocks, from a server or, with --store, from the store
inspect BLOCK  what a block says about itself, and its largest streams
verify         read blocks whole, or all live ones and what says what was
               deleted, and check every checksum, digest and count; the exit
               code is 0 only if all are whole
rebuild-index  write the index object anew from the blocks' footers, if all can
               be read. What it knew of blocks that are lost is forgotten, these
               are named`,
		examples: []string{
			"What there is\nblocks list",
			"In a directory, no server needed\nblocks list --store /var/lib/weir/objects --all",
			"One block\nblocks inspect --store s3://logs/weir?endpoint=minio:9000 06h19e57lct6np2h2fk6plpccc",
			"Whether all is well\nblocks verify --store /var/lib/weir/objects --tenant team-a",
		},
		run: o.run,
	}
}

func (o *blocksOptions) run(ctx context.Context, args []string) error {
	if o.top < 0 {
		return usagef("--streams must be at least 0")
	}
	if err := o.out.open(o.env); err != nil {
		return err
	}
	ctx, cancel := o.server.limit(ctx)
	defer cancel()
	actions := map[string]struct {
		run func(context.Context, objstore.Bucket, []string) error
		min int
		max int
	}{
		"list": {o.listStore, 0, 0}, "inspect": {o.inspect, 1, 1}, "verify": {o.verify, 0, -1}, "rebuild-index": {o.rebuildIndex, 0, 0},
	}
	name, rest := args[0], args[1:]
	a, ok := actions[name]
	if !ok {
		names := []string{"list", "inspect", "verify", "rebuild-index"}
		return usagef("blocks: unknown action %q%s", name, suggest(name, names))
	}
	if len(rest) < a.min || a.max >= 0 && len(rest) > a.max {
		return usagef("blocks %s: %d arguments (weirctl blocks --help shows examples)", name, len(rest))
	}
	if name == "list" && o.store.location == "" {
		if o.hidden {
			return usagef("--all needs --store")
		}
		return o.listServer(ctx)
	}
	return o.store.open(ctx, func(b objstore.Bucket) error {
		return o.server.translate(a.run(ctx, b, rest), "")
	})
}

// blockLine is a block as the list shows it; the JSON names are its contract.
type blockLine struct {
	ID        string    `json:"id"`
	Partition string    `json:"partition"` // a day, or any
	Level     int       `json:"level"`
	MinTime   time.Time `json:"min_time"`
	MaxTime   time.Time `json:"max_time"`
	Entries   uint64    `json:"entries"`
	Bytes     uint64    `json:"bytes"`
	RawBytes  uint64    `json:"raw_bytes"`
	Replaced  []string  `json:"replaced_by,omitempty"`
}

func lineOf(b catalog.Block) blockLine {
	l := blockLine{
		ID: string(b.ID), Partition: "any", Level: b.Level, MinTime: time.Unix(0, b.MinTime).UTC(), MaxTime: time.Unix(0, b.MaxTime).UTC(),
		Entries: uint64(b.Rows), Bytes: uint64(b.Size), RawBytes: uint64(b.RawBytes),
	}
	if !b.Partition.IsZero() {
		l.Partition = b.Partition.UTC().Format(time.DateOnly)
	}
	return l
}

func (o *blocksOptions) listServer(ctx context.Context) error {
	return o.server.call(ctx, "", func(ctx context.Context, c *client.Client) error {
		r, err := c.Storage().ListBlocks(ctx, &storagev1.ListBlocksRequest{})
		if err != nil {
			return err
		}
		var list []blockLine
		for _, b := range r.GetBlocks() {
			l := blockLine{
				ID: b.GetId(), Partition: "any", Level: int(b.GetLevel()), MinTime: b.GetMinTime().AsTime(), MaxTime: b.GetMaxTime().AsTime(),
				Entries: b.GetEntries(), Bytes: b.GetBytes(), RawBytes: b.GetRawBytes(),
			}
			if b.GetPartition() != nil {
				l.Partition = b.GetPartition().AsTime().Format(time.DateOnly)
			}
			list = append(list, l)
		}
		return o.print(list)
	})
}

func (o *blocksOptions) listStore(ctx context.Context, bucket objstore.Bucket, _ []string) error {
	_, snap, err := o.store.load(ctx, bucket)
	if err != nil {
		return err
	}
	var list []blockLine
	for _, b := range snap.Listed() {
		l := lineOf(b)
		for _, id := range snap.HiddenBy(b.ID) {
			l.Replaced = append(l.Replaced, string(id))
		}
		if len(l.Replaced) == 0 || o.hidden {
			list = append(list, l)
		}
	}
	if err := o.print(list); err != nil {
		return err
	}
	if o.store.tellProblems(snap, math.MinInt64, math.MaxInt64) > 0 {
		return errReported
	}
	return nil
}

func (o *blocksOptions) print(list []blockLine) error {
	if o.out.format == "json" {
		for _, l := range list {
			if err := o.out.json(l); err != nil {
				return err
			}
			if err := o.out.end(); err != nil {
				return err
			}
		}
		return o.out.flush()
	}
	w := tabwriter.NewWriter(o.out.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BLOCK\tPARTITION\tLEVEL\tFIRST\tLAST\tENTRIES\tSIZE\tLINES")
	bytes, raw := uint64(0), uint64(0)
	for _, l := range list {
		state := ""
		if len(l.Replaced) > 0 {
			state = "\treplaced"
		} else {
			bytes, raw = bytes+l.Bytes, raw+l.RawBytes
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s%s\n", l.ID, l.Partition, l.Level, l.MinTime.Format(time.RFC3339), l.MaxTime.Format(time.RFC3339),
			formatCount(l.Entries), formatBytes(l.Bytes), formatBytes(l.RawBytes), state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bytes > 0 {
		fmt.Fprintf(o.out.w, "\n%s of lines in %s: %.1f to 1\n", formatBytes(raw), formatBytes(bytes), float64(raw)/float64(bytes))
	}
	return o.out.flush()
}

// find returns the block that an argument names.
func find(snap *catalog.Snapshot, tenant, name string) (catalog.Block, error) {
	if b, err := catalog.ParseKey(name); err == nil {
		name = string(b.ID)
	}
	if b, ok := snap.Block(catalog.ID(name)); ok {
		return b, nil
	}
	return catalog.Block{}, fmt.Errorf("tenant %s has no block %q", tenant, name)
}

func (o *blocksOptions) inspect(ctx context.Context, bucket objstore.Bucket, args []string) error {
	_, snap, err := o.store.load(ctx, bucket)
	if err != nil {
		return err
	}
	b, err := find(snap, o.store.tenant(), args[0])
	if err != nil {
		return err
	}
	r, err := openBlock(ctx, bucket, b)
	if err != nil {
		return err
	}
	type streamLine struct {
		Labels  map[string]string `json:"labels"`
		Entries uint64            `json:"entries"`
		Bytes   uint64            `json:"bytes"`
		Runs    int               `json:"runs"`
	}
	streams := make([]streamLine, r.Streams())
	for i := range streams {
		runs := r.Runs(i, math.MinInt64, math.MaxInt64)
		streams[i] = streamLine{Labels: r.Labels(i).Map(), Runs: len(runs)}
		for _, run := range runs {
			streams[i].Entries += run.Rows
			streams[i].Bytes += run.Bytes
		}
	}
	slices.SortStableFunc(streams, func(a, b streamLine) int { return int(min(max(int64(b.Bytes)-int64(a.Bytes), -1), 1)) })
	shown := streams[:min(o.top, len(streams))]
	info := r.Info()
	if o.out.format == "json" {
		err := o.out.json(struct {
			Key string `json:"key"`
			blockLine
			Streams int              `json:"streams"`
			Ordered bool             `json:"ordered"`
			Sources []catalog.Source `json:"sources"`
			Applied []string         `json:"applied"`
			Largest []streamLine     `json:"largest_streams"`
		}{catalog.Key(b), lineOf(b), len(streams), info.Ordered, info.Sources, info.Tombstones, shown})
		if err == nil {
			err = o.out.end()
		}
		if err != nil {
			return err
		}
		return o.out.flush()
	}
	w := tabwriter.NewWriter(o.out.w, 0, 0, 2, ' ', 0)
	l := lineOf(b)
	for _, f := range [][2]string{
		{"key", catalog.Key(b)}, {"partition", l.Partition}, {"level", fmt.Sprint(l.Level)},
		{"first", l.MinTime.Format(time.RFC3339Nano)}, {"last", l.MaxTime.Format(time.RFC3339Nano)},
		{"entries", formatCount(l.Entries)}, {"lines", formatBytes(l.RawBytes)}, {"metadata", formatBytes(uint64(info.MetadataBytes))},
		{"size", formatBytes(l.Bytes)}, {"index of streams", formatBytes(uint64(info.IndexSize))},
		{"sections", fmt.Sprint(info.Sections)}, {"row groups", fmt.Sprint(info.RowGroups)},
		{"order fixed", fmt.Sprint(info.Ordered)}, {"applied", strings.Join(info.Tombstones, ", ")},
	} {
		fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
	}
	for _, s := range info.Sources {
		fmt.Fprintf(w, "source\t%s, part %d of %d of merge %s\n", s.ID, s.Part+1, s.Of, s.Merge)
	}
	fmt.Fprintf(w, "streams\t%s\n", formatCount(uint64(len(streams))))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range shown {
		fmt.Fprintf(o.out.w, "  %s  %s entries, %s, %d runs\n", formatLabels(s.Labels), formatCount(s.Entries), formatBytes(s.Bytes), s.Runs)
	}
	return o.out.flush()
}

func (o *blocksOptions) verify(ctx context.Context, bucket objstore.Bucket, args []string) error {
	_, snap, err := o.store.load(ctx, bucket)
	if err != nil {
		return err
	}
	blocks := snap.Live(o.store.tenant(), math.MinInt64, math.MaxInt64)
	if len(args) > 0 {
		blocks = nil
		for _, name := range args {
			b, err := find(snap, o.store.tenant(), name)
			if err != nil {
				return err
			}
			blocks = append(blocks, b)
		}
	}
	bad := 0
	for _, b := range blocks {
		var r *block.Reader
		if r, err = openBlock(ctx, bucket, b); err == nil {
			err = r.Verify(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			bad++
			warn(o.env.Stderr, []string{err.Error()})
		default:
			fmt.Fprintf(o.out.w, "%s is whole: %s entries\n", b.ID, formatCount(uint64(b.Rows)))
		}
		if err := o.out.flush(); err != nil {
			return err
		}
	}
	all := len(blocks)
	var deletes error
	if len(args) == 0 {
		n := o.store.tellProblems(snap, math.MinInt64, math.MaxInt64)
		bad, all = bad+n, all+n
		deletes = o.verifyDeletes(ctx, bucket)
	}
	if bad > 0 {
		fmt.Fprintf(o.env.Stderr, "weirctl: %d of %d blocks are damaged or lost\n", bad, all)
		return cmp.Or(deletes, errReported)
	}
	return deletes
}

// verifyDeletes checks the objects of the tenant's deletes: without them nobody can tell which
// entries of whole blocks are answers.
func (o *blocksOptions) verifyDeletes(ctx context.Context, bucket objstore.Bucket) error {
	n, damaged, err := tombstone.NewStore(bucket, o.env.Now, 0).Verify(ctx, o.store.tenant())
	if err != nil || n == 0 {
		return err
	}
	for _, err := range damaged {
		warn(o.env.Stderr, []string{err.Error()})
	}
	if len(damaged) > 0 {
		fmt.Fprintf(o.env.Stderr, "weirctl: %d of %d objects of deletes are damaged\n", len(damaged), n)
		return errReported
	}
	fmt.Fprintf(o.out.w, "%d objects of deletes are whole\n", n)
	return o.out.flush()
}

// without hides an object of a bucket from those who read.
type without struct {
	objstore.Bucket
	key string
}

func (w without) Stat(ctx context.Context, key string) (objstore.Object, error) {
	if key == w.key {
		return objstore.Object{}, fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	return w.Bucket.Stat(ctx, key)
}

func (w without) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if key == w.key {
		return nil, fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	return w.Bucket.Get(ctx, key, off, n)
}

// rebuildIndex replaces the index object when all blocks have been read: until then the
// old one stays, and what it knows.
func (o *blocksOptions) rebuildIndex(ctx context.Context, bucket objstore.Bucket, _ []string) error {
	key := catalog.IndexKey(o.store.tenant())
	loader, snap, err := o.store.load(ctx, without{bucket, key})
	if err != nil {
		return err
	}
	if n := o.store.tellProblems(snap, math.MinInt64, math.MaxInt64); n > 0 {
		return fmt.Errorf("the index stays as it is: %d blocks cannot be read, and it may know what they said", n)
	}
	var lost []string // of which only the old index knows
	if _, known, err := o.store.list(ctx, bucket); err == nil {
		for _, p := range known.Problems(o.store.tenant(), math.MinInt64, math.MaxInt64) {
			lost = append(lost, fmt.Sprintf("block %s is lost, and no answer will tell of it from now on", p.Key()))
		}
	}
	if len(snap.Listed()) == 0 {
		err = bucket.Delete(ctx, key)
	} else {
		_, err = loader.SaveIndex(ctx, o.store.tenant())
	}
	if err != nil {
		return err
	}
	warn(o.store.env.Stderr, lost)
	fmt.Fprintf(o.out.w, "the index of tenant %s has %d blocks\n", o.store.tenant(), len(snap.Listed()))
	return o.out.flush()
}
