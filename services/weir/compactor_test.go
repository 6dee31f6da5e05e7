package weir

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/catalog"
)

// TestCompactAndDelete follows entries of a day that is over through blocks, their
// merge and a delete, which a restart does not undo.
func TestCompactAndDelete(t *testing.T) {
	dir := t.TempDir()
	edit := func(c *Config) {
		c.Compactor.RewriteDelay = 0
	}
	p := startProcess(t, dir, edit)
	at := time.Now().Add(-72 * time.Hour).Truncate(24 * time.Hour).Add(6 * time.Hour)
	admin, store := adminv1.NewAdminServiceClient(p.conn), storagev1.NewStorageServiceClient(p.conn)
	var want []string
	for i := range 6 {
		line := fmt.Sprintf("request %d with card number %d", i, 4000+i)
		want = append(want, line)
		p.push(t, "shop", at.Add(time.Duration(i)*time.Minute), line)
		if i%2 == 1 {
			if _, err := admin.Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	blocks := func() int {
		t.Helper()
		r, err := store.ListBlocks(t.Context(), &storagev1.ListBlocksRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.GetBlocks())
	}
	q := &queryv1.QueryRangeRequest{Query: `{app="shop"}`, Direction: queryv1.Direction_DIRECTION_FORWARD, Start: timestamppb.New(at.Add(-time.Hour)), End: timestamppb.New(at.Add(time.Hour))}
	check := func(what string) {
		t.Helper()
		if got, _ := p.lines(t, q); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("%s: got %q, want %q", what, got, want)
		}
	}
	if n := blocks(); n < 2 {
		t.Fatalf("%d blocks", n)
	}
	check("before the merge")
	if _, err := admin.Compact(t.Context(), &adminv1.CompactRequest{}); err != nil {
		t.Fatal(err)
	}
	if n := blocks(); n != 1 {
		t.Fatalf("%d blocks after the merge", n)
	}
	check("after the merge")

	if _, err := store.CreateDelete(t.Context(), &storagev1.CreateDeleteRequest{Query: `{app="shop"} |= "card number 4003"`}); err != nil {
		t.Fatal(err)
	}
	// The store's clock must have seen the delete, by which its age is judged.
	for {
		if _, err := admin.Compact(t.Context(), &adminv1.CompactRequest{}); err != nil {
			t.Fatal(err)
		}
		l, err := store.ListDeletes(t.Context(), &storagev1.ListDeletesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if list := l.GetDeletes(); len(list) == 1 && list[0].GetState() == storagev1.DeleteState_DELETE_STATE_DONE && list[0].GetRemovedEntries() == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	want = append(want[:3:3], want[4:]...)
	check("after the delete")
	// Nor does a restart bring it back, or a push.
	p.stop()
	p = startProcess(t, dir, edit)
	store = storagev1.NewStorageServiceClient(p.conn)
	l, err := store.ListDeletes(t.Context(), &storagev1.ListDeletesRequest{})
	if err != nil || len(l.GetDeletes()) != 1 {
		t.Fatal(l, err)
	}
	check("after a restart")
	r, err := pushv1.NewPushServiceClient(p.conn).Push(t.Context(), &pushv1.PushRequest{Streams: []*pushv1.Stream{{
		Labels:  map[string]string{"app": "shop"},
		Entries: []*pushv1.Entry{{TimestampUnixNano: at.Add(3 * time.Minute).UnixNano(), Line: &pushv1.Entry_Text{Text: "card number 4003"}}},
	}}})
	if err != nil || r.GetRejectedEntries() != 1 || r.GetRejections()[0].GetReason() != pushv1.RejectReason_REJECT_REASON_DELETED_RANGE {
		t.Fatal(r, err)
	}
}

// Who asks for a merge that fails is told which and why, whatever the protocol.
func TestCompactTellsWhatFailed(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	at := time.Now().Add(-72 * time.Hour).Truncate(24 * time.Hour).Add(6 * time.Hour)
	admin := adminv1.NewAdminServiceClient(p.conn)
	for i := range 2 {
		p.push(t, "shop", at.Add(time.Duration(i)*time.Minute), strings.Repeat(fmt.Sprintf("request %d, ", i), 100))
		if _, err := admin.Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	damaged := ""
	root := filepath.Join(dir, "objects")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || damaged != "" {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		b, err := catalog.ParseKey(filepath.ToSlash(key))
		if err != nil {
			return nil //nolint:nilerr // no block
		}
		damaged = string(b.ID)
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(body, []byte("request"))
		if at < 0 {
			at = 16
		}
		body[at] ^= 1
		return os.WriteFile(path, body, 0o600)
	})
	if err != nil || damaged == "" {
		t.Fatal(damaged, err)
	}
	check := func(how, text string) {
		t.Helper()
		if !strings.Contains(text, "merge of "+at.UTC().Format(time.DateOnly)) || !strings.Contains(text, damaged) {
			t.Errorf("%s: %q does not name the day and %s", how, text, damaged)
		}
	}
	_, err = admin.Compact(t.Context(), &adminv1.CompactRequest{})
	if status.Code(err) != codes.DataLoss {
		t.Error(err)
	}
	check("gRPC", status.Convert(err).Message())
	for _, path := range []string{"/compact", "/api/v1/admin/compact"} {
		resp, err := http.Post("http://"+p.HTTPAddr()+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusInternalServerError {
			t.Error(resp.Status, err)
		}
		check(path, string(body))
	}
}
