package weir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/limits"
)

// A delete is in force at once in every kind of answer, for entries that ingesters hold
// as for those in the object store, until it is cancelled.
func TestDeletesInEveryAnswer(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	query, store := queryv1.NewQueryServiceClient(p.conn), storagev1.NewStorageServiceClient(p.conn)
	at := time.Now().Add(-20 * time.Minute)
	p.push(t, "shop", at, "one card", "two", "three card")
	p.push(t, "bank", at, "secret")
	if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	p.push(t, "shop", at.Add(time.Minute), "four card", "five")
	check := func(what, lines, apps string, count, card float64) {
		t.Helper()
		got, _ := p.lines(t, &queryv1.QueryRangeRequest{Query: `{app=~".+"}`, Direction: queryv1.Direction_DIRECTION_FORWARD})
		if strings.Join(got, "|") != lines {
			t.Errorf("%s: lines %q", what, got)
		}
		for text, want := range map[string]float64{`sum(count_over_time({app=~".+"}[1h]))`: count, `sum(count_over_time({app=~".+"} |= "card" [1h])) or vector(0)`: card} {
			m, err := query.Query(t.Context(), &queryv1.QueryRequest{Query: text})
			if err != nil || len(m.GetVector().GetSamples()) != 1 || m.GetVector().GetSamples()[0].GetSample().GetValue() != want {
				t.Errorf("%s: %s: %v, %v", what, text, m, err)
			}
		}
		v, err := query.LabelValues(t.Context(), &queryv1.LabelValuesRequest{Name: "app"})
		if err != nil || strings.Join(v.GetValues(), "|") != apps {
			t.Errorf("%s: %v, %v", what, v, err)
		}
		r, err := query.Series(t.Context(), &queryv1.SeriesRequest{})
		if err != nil || len(r.GetSeries()) != len(strings.Split(apps, "|")) {
			t.Errorf("%s: %v, %v", what, r, err)
		}
		s, err := query.Stats(t.Context(), &queryv1.StatsRequest{Selector: `{app="bank"}`})
		if err != nil || s.GetEntries() > 0 != strings.Contains(apps, "bank") {
			t.Errorf("%s: %v, %v", what, s, err)
		}
	}
	all := "secret|one card|two|three card|four card|five"
	check("before", all, "bank|shop", 6, 3)
	var ids []string
	for _, q := range []string{`{app=~".+"} |= "card"`, `{app="bank"}`} {
		d, err := store.CreateDelete(t.Context(), &storagev1.CreateDeleteRequest{Query: q})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.GetDelete().GetId())
	}
	check("deleted", "two|five", "shop", 2, 0)
	for _, id := range ids {
		if _, err := store.CancelDelete(t.Context(), &storagev1.CancelDeleteRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
	}
	check("cancelled", all, "bank|shop", 6, 3)
}

// A delete whose object is damaged is told of by the process that meets it, until it is mended.
func TestDamagedDeleteIsTold(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	d, err := storagev1.NewStorageServiceClient(p.conn).CreateDelete(t.Context(), &storagev1.CreateDeleteRequest{Query: `{app="bank"}`})
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	key := "fake/deletes/" + d.GetDelete().GetId()
	path := filepath.Join(dir, "objects", filepath.FromSlash(key))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(body []byte) {
		if err := errors.Join(os.Remove(path), os.WriteFile(path, body, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	replace(whole[:len(whole)/2])
	p = startProcess(t, dir, nil)
	degraded := func() string {
		r, err := adminv1.NewAdminServiceClient(p.conn).Services(t.Context(), &adminv1.ServicesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(r.GetDegraded(), "\n")
	}
	if _, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), &queryv1.QueryRangeRequest{Query: `{app="shop"}`}); status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), key) {
		t.Errorf("a query: %v", err)
	}
	if got := degraded(); !strings.HasPrefix(got, "deletes: ") || !strings.Contains(got, key) {
		t.Errorf("told is %q", got)
	}
	replace(whole)
	if err := p.storage.refresh(t.Context()); err != nil { // as each half minute
		t.Fatal(err)
	}
	if got := degraded(); got != "" {
		t.Errorf("told is %q of what was mended", got)
	}
}

// Retention by streams and levels holds at read before anything is removed, however old
// what is stored is.
func TestRetentionAtRead(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	at := time.Now().Add(-30 * time.Hour)
	p.push(t, "shop", at, "old level=debug", "old level=error")
	p.push(t, "shop", at.Add(29*time.Hour), "new level=debug", "new level=error")
	p.stop()
	q := &queryv1.QueryRangeRequest{Query: `{app="shop"}`, Direction: queryv1.Direction_DIRECTION_FORWARD, Start: timestamppb.New(at.Add(-time.Hour))}
	p = startProcess(t, dir, func(c *Config) {
		c.Limits.RetentionStream = []limits.RetentionStream{{Selector: `{app="shop"} | detected_level="debug"`, Period: 24 * time.Hour}}
	})
	if got, _ := p.lines(t, q); strings.Join(got, "|") != "old level=error|new level=debug|new level=error" {
		t.Errorf("got %q", got)
	}
}

// What was flushed is read from the object store: after a restart with an empty ingester
// directory beside it, too.
func TestStoreAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	at := time.Now().Add(-50 * time.Hour)
	var want []string
	for i := range 5 {
		lines := []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}
		want = append(want, lines...)
		p.push(t, fmt.Sprint("app", i%2), at.Add(time.Duration(i)*time.Hour), lines...)
		if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	q := &queryv1.QueryRangeRequest{Query: `{app=~".+"}`, Direction: queryv1.Direction_DIRECTION_FORWARD, Start: timestamppb.New(at.Add(-time.Hour))}
	for range 3 {
		if got, _ := p.lines(t, q); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("got %q", got)
		}
		if _, err := adminv1.NewAdminServiceClient(p.conn).Compact(t.Context(), &adminv1.CompactRequest{}); err != nil {
			t.Fatal(err)
		}
		p.stop()
		p = startProcess(t, dir, nil)
	}
	// A block whose bytes are wrong is an error that names it, unless an equal copy is
	// read instead: never a wrong answer.
	p.stop()
	broken := 0
	err := filepath.WalkDir(filepath.Join(dir, "objects"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "index" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		broken++
		b[len(b)/3] ^= 4
		return errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600))
	})
	if err != nil || broken == 0 {
		t.Fatal(broken, err)
	}
	p = startProcess(t, dir, nil)
	r, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), q)
	switch {
	case err != nil && (status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "block")):
		t.Errorf("damaged: %v", err)
	case err == nil && len(r.GetWarnings()) == 0:
		if got, _ := p.lines(t, q); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("damaged: got %q", got)
		}
	}
}
