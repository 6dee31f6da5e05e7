package weirctl

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
)

const importable = `{"timestamp":"2026-03-01T11:00:00.000000001Z","labels":{"app":"a"},"line":"a line","structured_metadata":{"trace":"1"}}
{"timestamp":"2026-03-01T11:00:01Z","labels":{"app":"a"},"line_base64":"/wA="}

{"timestamp":"2026-03-01T11:00:02Z","labels":{"app":"b","x":"y"},"line":"","parsed":{"level":"info"}}
`

func (f *fakeServer) delete(id string, state storagev1.DeleteState) *storagev1.Delete {
	return &storagev1.Delete{
		Id: id, Query: "{app=\"x\"} |= `\x1b`", Start: timestamppb.New(noon.Add(-time.Hour)), End: timestamppb.New(noon), Created: timestamppb.New(noon), State: state,
		BlocksDone: 1, BlocksPending: 2, BytesDone: 100, BytesPending: 200, RemovedEntries: 1234,
		Removals: []*storagev1.Removal{{Block: "new", Sources: []string{"old"}, Entries: 1234, Time: timestamppb.New(noon)}},
	}
}

func (f *fakeServer) CreateDelete(_ context.Context, r *storagev1.CreateDeleteRequest) (*storagev1.CreateDeleteResponse, error) {
	if err := syntaxError(r.GetQuery()); err != nil {
		return nil, err
	}
	d := f.delete("a", storagev1.DeleteState_DELETE_STATE_RECEIVED)
	d.Query = r.GetQuery()
	if r.GetStart() != nil {
		d.Start = r.GetStart()
	}
	return &storagev1.CreateDeleteResponse{Delete: d}, nil
}

func (f *fakeServer) ListDeletes(context.Context, *storagev1.ListDeletesRequest) (*storagev1.ListDeletesResponse, error) {
	cancelled := f.delete("c", storagev1.DeleteState_DELETE_STATE_CANCELLED)
	cancelled.Cancelled = timestamppb.New(noon.Add(time.Hour))
	return &storagev1.ListDeletesResponse{Deletes: []*storagev1.Delete{
		f.delete("a", storagev1.DeleteState_DELETE_STATE_RECEIVED), f.delete("b", storagev1.DeleteState_DELETE_STATE_REWRITING), cancelled,
	}}, nil
}

func (f *fakeServer) CancelDelete(_ context.Context, r *storagev1.CancelDeleteRequest) (*storagev1.CancelDeleteResponse, error) {
	if r.GetId() == "b" {
		return nil, reasoned(codes.FailedPrecondition, "CONFLICT", "delete b cannot be cancelled: rewriting has started, entries may be gone")
	}
	return &storagev1.CancelDeleteResponse{}, nil
}

func (f *fakeServer) block() *storagev1.Block {
	return &storagev1.Block{Id: "blk", Partition: timestamppb.New(noon.Truncate(24 * time.Hour)), Level: 2, MinTime: timestamppb.New(noon.Add(-time.Hour)), MaxTime: timestamppb.New(noon), Bytes: 5_000_000, Entries: 1_000_000, RawBytes: 100_000_000}
}

func (f *fakeServer) RetentionDryRun(_ context.Context, r *storagev1.RetentionDryRunRequest) (*storagev1.RetentionDryRunResponse, error) {
	at := timestamppb.New(noon)
	if r.GetTime() != nil {
		at = r.GetTime()
	}
	resp := &storagev1.RetentionDryRunResponse{Time: at, Bytes: 50_000_000, BytesExpired: 5_000_000, BytesPerCycle: 10_000_000, Steps: []*storagev1.RetentionStep{
		{Block: f.block(), Reason: "all entries have expired", Entries: 1_000_000},
		{Block: f.block(), Rewrite: true, Reason: "older than 24h0m0s: {app=\"x\"}", Entries: 10, Estimated: !r.GetExact()},
	}}
	if at.AsTime().Year() == 2027 {
		resp.Incomplete, resp.Unread = true, []*storagev1.UnreadBlock{{Block: f.block(), Error: "open t/blk: footer: checksum\x1b"}}
	}
	return resp, nil
}

func (f *fakeServer) ListBlocks(context.Context, *storagev1.ListBlocksRequest) (*storagev1.ListBlocksResponse, error) {
	any := f.block()
	any.Id, any.Partition = "any", nil
	return &storagev1.ListBlocksResponse{Blocks: []*storagev1.Block{f.block(), any}}, nil
}

// testStore is a directory with blocks.
type testStore struct {
	*testing.T
	dir    string
	bucket objstore.Bucket
	rand   *rand.ChaCha8
	ids    []catalog.ID
}

func newTestStore(t *testing.T) *testStore {
	s := &testStore{T: t, dir: t.TempDir(), rand: rand.NewChaCha8([32]byte{})}
	b, err := objstore.OpenFilesystem(s.dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	s.bucket = b
	return s
}

// put stores a block of lines from..to of the streams, one a minute.
func (s *testStore) put(from, to int, sources []catalog.Source, apps ...string) {
	s.Helper()
	id, err := catalog.NewID(noon, s.rand)
	if err != nil {
		s.Fatal(err)
	}
	var body bytes.Buffer
	w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "fake", Partition: noon.Truncate(24 * time.Hour), Sources: sources}, block.Options{})
	for _, app := range apps {
		rows := &model.Rows{}
		trace := model.Column{Name: "trace"}
		level := model.Column{Name: "detected_level", Version: 1}
		for i := from; i < to; i++ {
			rows.Times = append(rows.Times, noon.Add(time.Duration(i)*time.Minute).UnixNano())
			rows.BatchTimes = append(rows.BatchTimes, 1)
			rows.Positions = append(rows.Positions, uint32(i))
			if i%5 == 0 {
				rows.Lines.Append([]byte{0xff, byte(i)})
			} else {
				rows.Lines.AppendString(fmt.Sprintf("line %d of %s", i, app))
			}
			trace.AppendString(i-from, fmt.Sprint("t", i))
			level.AppendString(i-from, "info")
		}
		rows.Metadata, rows.Derived = []model.Column{trace}, []model.Column{level}
		if err := w.Add(model.NewLabels([]model.Label{{Name: "app", Value: app}}), rows); err != nil {
			s.Fatal(err)
		}
	}
	info, err := w.Close()
	if err != nil {
		s.Fatal(err)
	}
	if err := objstore.PutBytes(s.Context(), s.bucket, catalog.Key(info.Catalog()), body.Bytes()); err != nil {
		s.Fatal(err)
	}
	s.ids = append(s.ids, id)
}

func (s *testStore) run(code int, args ...string) outcome {
	s.Helper()
	out := invocation{args: append(args, "--store", s.dir)}.run(s.Context())
	if out.code != code {
		s.Fatalf("%v: exit %d\n%s%s", args, out.code, out.stdout, out.stderr)
	}
	return out
}

func TestBlocksOfStore(t *testing.T) {
	s := newTestStore(t)
	s.put(0, 50, nil, "a", "b")
	s.put(40, 60, nil, "a")
	s.put(0, 60, []catalog.Source{{ID: s.ids[1], Of: 1, Merge: "m"}}, "a")
	live := s.run(ExitOK, "blocks", "list").stdout
	all := s.run(ExitOK, "blocks", "list", "--all").stdout
	if strings.Contains(live, string(s.ids[1])) || !strings.Contains(all, string(s.ids[1])) || !strings.Contains(all, "replaced") || !strings.Contains(live, "to 1") {
		t.Errorf("%s\n%s", live, all)
	}
	text := s.run(ExitOK, "blocks", "inspect", string(s.ids[2])).stdout
	for _, want := range []string{"fake/2026-03-01/0-", "part 1 of 1 of merge m", `{app="a"}  60 entries`, "order fixed       false"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nhas no %s", text, want)
		}
	}
	var seen struct {
		Key     string `json:"key"`
		Streams int    `json:"streams"`
		Entries uint64 `json:"entries"`
	}
	if err := json.Unmarshal([]byte(s.run(ExitOK, "blocks", "inspect", string(s.ids[0]), "-o", "json").stdout), &seen); err != nil || seen.Streams != 2 || seen.Entries != 100 {
		t.Errorf("%v %+v", err, seen)
	}
	if out := s.run(ExitError, "blocks", "inspect", "nothing"); !strings.Contains(out.stderr, `has no block "nothing"`) {
		t.Error(out.stderr)
	}
	if out := s.run(ExitOK, "blocks", "verify"); strings.Count(out.stdout, "is whole") != 2 {
		t.Error(out.stdout)
	}
	s.run(ExitOK, "blocks", "verify", seen.Key)
	if out := s.run(ExitOK, "blocks", "rebuild-index"); !strings.Contains(out.stdout, "3 blocks") {
		t.Error(out.stdout)
	}
	body, err := objstore.ReadAll(t.Context(), s.bucket, catalog.IndexKey("fake"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := catalog.DecodeIndex(body); err != nil || len(x.Entries) != 3 {
		t.Error(x, err)
	}
	// Damage is found, and named.
	path := filepath.Join(s.dir, seen.Key)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole[50] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.run(ExitError, "blocks", "verify")
	if !strings.Contains(out.stderr, string(s.ids[0])) || !strings.Contains(out.stderr, "1 of 2 blocks are damaged") {
		t.Error(out.stderr)
	}
	if out := s.run(ExitError, "export"); !strings.Contains(out.stderr, string(s.ids[0])) {
		t.Error(out.stderr)
	}
	partial := func() {
		t.Helper()
		out := s.run(ExitError, "export", "--partial")
		if n := strings.Count(out.stdout, "\n"); n != 60 || !strings.Contains(out.stderr, string(s.ids[0])) || !strings.Contains(out.stderr, "not complete") {
			t.Errorf("%d entries: %s", n, out.stderr)
		}
	}
	partial()
	// An index that may know more than the blocks say stays.
	index := filepath.Join(s.dir, catalog.IndexKey("fake"))
	footer := slices.Clone(whole)
	footer[len(footer)-20-1] ^= 1
	if err := os.WriteFile(path, footer, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run(ExitError, "blocks", "rebuild-index"); !strings.Contains(out.stderr, "stays as it is: 1 blocks") || !strings.Contains(out.stderr, string(s.ids[0])) {
		t.Error(out.stderr)
	}
	if now, err := os.ReadFile(index); err != nil || !bytes.Equal(now, body) {
		t.Errorf("the index was changed: %v", err)
	}
	// What is gone is missed, until the index is made anew.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if out := s.run(ExitError, "blocks", "list"); !strings.Contains(out.stderr, "vanished") {
		t.Error(out.stderr)
	}
	if out := s.run(ExitError, "export"); !strings.Contains(out.stderr, "would not be complete") {
		t.Error(out.stderr)
	}
	if out := s.run(ExitError, "blocks", "verify"); !strings.Contains(out.stderr, "1 of 2 blocks are damaged or lost") {
		t.Error(out.stderr)
	}
	partial()
	// Who makes it anew is told what nobody knows of from then on, though it is cut and there.
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run(ExitOK, "blocks", "rebuild-index"); !strings.Contains(out.stderr, string(s.ids[0])+" is lost") || strings.Count(out.stderr, "\n") != 1 {
		t.Errorf("%q", out.stderr)
	}
	if out := s.run(ExitOK, "blocks", "rebuild-index"); out.stderr != "" {
		t.Errorf("%q", out.stderr)
	}
	s.run(ExitOK, "blocks", "list")
	if out := s.run(ExitOK, "export", "--partial"); strings.Count(out.stdout, "\n") != 60 || out.stderr != "" {
		t.Error(out.stderr)
	}
	// A tenant without blocks is most likely a name that was not meant.
	for _, args := range [][]string{{"blocks", "list"}, {"blocks", "verify"}, {"blocks", "rebuild-index"}, {"export"}} {
		if out := s.run(ExitOK, append(args, "--tenant", "nobody")...); !strings.Contains(out.stderr, "no blocks of tenant nobody") {
			t.Errorf("%v: %q", args, out.stderr)
		}
	}
	for _, args := range [][]string{{"blocks", "list"}, {"export"}} {
		if out := s.run(ExitUsage, append(args, "--tenant", "../nobody")...); !strings.Contains(out.stderr, "invalid tenant id") {
			t.Errorf("%v: %q", args, out.stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "nobody")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is something of nobody: %v", err)
	}
}

// TestPartialExportWithoutWhatAMergeRefuses: a block that is whole and that a merge would not
// take, as its digests are of a later version, is told of; the others are exported.
func TestPartialExportWithoutWhatAMergeRefuses(t *testing.T) {
	s := newTestStore(t)
	s.put(0, 50, nil, "a")
	s.put(20, 60, nil, "b")
	var later catalog.Block
	var body []byte
	if err := s.bucket.List(t.Context(), catalog.Prefix("fake"), func(o objstore.Object) error {
		b, err := catalog.ParseKey(o.Key)
		if err == nil && b.ID == s.ids[0] {
			later = b
			body, err = objstore.ReadAll(t.Context(), s.bucket, o.Key, 1<<20)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.bucket.Delete(t.Context(), catalog.Key(later)); err != nil {
		t.Fatal(err)
	}
	// The footer's frame, and behind it its length, versions, a checksum of these, a magic.
	tail := len(body) - 20
	at := tail - int(binary.LittleEndian.Uint32(body[tail:]))
	footer, err := column.ReadFrame(body[at:tail], 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	const flags, version = 0, 1
	mark := binary.AppendVarint([]byte{flags, version}, later.MinTime)
	if bytes.Count(footer, mark) != 1 {
		t.Fatal("the version of digests is elsewhere")
	}
	footer[bytes.Index(footer, mark)+1] = version + 1
	versions, magic := bytes.Clone(body[tail+4:tail+8]), bytes.Clone(body[tail+16:])
	body = column.NewCompressor(column.LevelDefault).AppendFrame(body[:at:at], footer)
	tail = len(body)
	body = append(binary.LittleEndian.AppendUint32(body, uint32(tail-at)), versions...)
	body = append(binary.LittleEndian.AppendUint64(body, xxhash.Sum64(body[tail:])), magic...)
	later.Size = int64(len(body))
	if err := objstore.PutBytes(t.Context(), s.bucket, catalog.Key(later), body); err != nil {
		t.Fatal(err)
	}
	s.run(ExitOK, "blocks", "verify")
	if out := s.run(ExitError, "export"); !strings.Contains(out.stderr, "digests are of version 2") {
		t.Error(out.stderr)
	}
	out := s.run(ExitError, "export", "--partial")
	if n := strings.Count(out.stdout, "\n"); n != 40 || !strings.Contains(out.stderr, string(s.ids[0])) || !strings.Contains(out.stderr, "not complete") {
		t.Errorf("%d entries: %s", n, out.stderr)
	}
}

// TestExportImport: what is exported from a store and imported is what was stored,
// each entry once, without what servers derive and without what was deleted.
func TestExportImport(t *testing.T) {
	s := newTestStore(t)
	s.put(0, 50, nil, "a", "b")
	s.put(40, 60, nil, "a")
	s.put(200, 210, nil, "a")
	d, err := tombstone.New(noon.Add(24*time.Hour), s.rand, "fake", `{app="b"} |= "line 7 "`, 0, noon.Add(24*time.Hour).UnixNano())
	if err == nil {
		err = tombstone.NewStore(s.bucket, time.Now, 0).Create(t.Context(), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	file := s.run(ExitOK, "export").stdout
	if n := strings.Count(file, "\n"); n != 119 {
		t.Fatalf("%d entries", n)
	}
	f := startFake(t)
	out := invocation{args: []string{"import", "--addr", f.addr, "--batch-lines", "7"}, stdin: file}.run(t.Context())
	if out.code != ExitOK {
		t.Fatal(out.stderr)
	}
	seen := map[string]int{}
	for _, p := range f.pushed {
		e := p.entry
		i := int(time.Unix(0, e.GetTimestampUnixNano()).Sub(noon) / time.Minute)
		line := fmt.Sprintf("line %d of %s", i, p.labels["app"])
		got := e.GetText()
		if i%5 == 0 {
			line, got = string([]byte{0xff, byte(i)}), string(e.GetRaw())
		}
		if got != line || len(e.GetStructuredMetadata()) != 1 || e.GetStructuredMetadata()["trace"] != fmt.Sprint("t", i) {
			t.Errorf("imported %v", e)
		}
		seen[fmt.Sprint(p.labels["app"], i)]++
	}
	if len(seen) != 119 || seen["b7"] != 0 {
		t.Errorf("%d entries", len(seen))
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s was exported %d times", k, n)
		}
	}
	// A selector and a range.
	for _, c := range []struct {
		want int
		args []string
	}{
		{50 - 1, []string{"export", `{app="b"}`}},
		{1, []string{"export", `{app="a"} |= "line 3 "`}},
		{5 + 5 - 1, []string{"export", "--from", "2026-03-01T12:05:00Z", "--to", "2026-03-01T12:10:00Z"}},
		{10, []string{"export", `{app="a"} | trace=~"t4[0-9]"`, "--to", "2026-03-01T12:51:00Z"}},
		{60, []string{"export", `{app="a"}`, "--to", "2026-03-01T13:00:00Z"}},
	} {
		if n := strings.Count(s.run(ExitOK, c.args...).stdout, "\n"); n != c.want {
			t.Errorf("%v: %d entries, want %d", c.args, n, c.want)
		}
	}
	s.run(ExitUsage, "export", `{app="a"} | line_format "x"`)
}

func FuzzParseExported(f *testing.F) {
	for _, line := range strings.Split(importable, "\n") {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		labels, e, err := parseExported(line)
		if err != nil {
			return
		}
		// What was understood is written as something that means the same.
		x := exported{Timestamp: time.Unix(0, e.GetTimestampUnixNano()).UTC(), Labels: labels, Metadata: e.GetStructuredMetadata(), Copy: e.GetCopy()}
		raw := e.GetRaw()
		if e.GetText() != "" {
			raw = []byte(e.GetText())
		}
		x.setLine(raw)
		text, err := json.Marshal(x)
		if err != nil {
			t.Skip(err) // a year that JSON does not know
		}
		again, e2, err := parseExported(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		raw2 := e2.GetRaw()
		if e2.GetText() != "" {
			raw2 = []byte(e2.GetText())
		}
		if fmt.Sprint(labels) != fmt.Sprint(again) || !slices.Equal(raw, raw2) || e.GetTimestampUnixNano() != e2.GetTimestampUnixNano() {
			t.Fatalf("%s became %s", line, text)
		}
	})
}

// Whoever asks whether all is whole is told of deletes as well.
func TestVerifyDeletes(t *testing.T) {
	s := newTestStore(t)
	s.put(0, 5, nil, "a")
	x, err := tombstone.New(noon, s.rand, "fake", `{app="a"}`, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	deletes := tombstone.NewStore(s.bucket, func() time.Time { return noon }, 0)
	if err := errors.Join(deletes.Create(t.Context(), x), deletes.Cancel(t.Context(), "fake", x.ID, "me")); err != nil {
		t.Fatal(err)
	}
	if out := s.run(ExitOK, "blocks", "verify"); !strings.Contains(out.stdout, "2 objects of deletes are whole") {
		t.Error(out.stdout)
	}
	key := catalog.DeletesPrefix("fake") + x.ID
	if err := objstore.PutBytes(t.Context(), s.bucket, key, []byte("?")); err != nil {
		t.Fatal(err)
	}
	out := s.run(ExitError, "blocks", "verify")
	if !strings.Contains(out.stderr, "object "+key+": damaged delete") || !strings.Contains(out.stderr, "1 of 2 objects of deletes are damaged") || strings.Count(out.stdout, "is whole") != 1 {
		t.Errorf("%s%s", out.stdout, out.stderr)
	}
	s.run(ExitOK, "blocks", "verify", string(s.ids[0])) // which is whole
}
