package gossip

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weir-logs/weir/libs/ring"
)

func tableOf(t testing.TB, members ...ring.Member) ring.Table {
	t.Helper()
	var table ring.Table
	for _, m := range members {
		m.Version = max(m.Version, 1)
		var err error
		if table, _, err = table.Put(m); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

// opened returns a core of an ingester called self, its clock, and the names
// that it told the others of.
func opened(t *testing.T) (c *core, now *time.Time, spread *[]string) {
	t.Helper()
	now, spread = &time.Time{}, &[]string{}
	*now = time.Unix(1_700_000_000, 0)
	c = newCore(member("self"), ring.Config{ReplicationFactor: 3}, Deps{Now: func() time.Time { return *now }})
	c.absent = time.Hour
	c.spread = func(m ring.Member) { *spread = append(*spread, m.Name+" "+m.State.String()) }
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	return c, now, spread
}

func TestOwnNameIsDefended(t *testing.T) {
	c, _, spread := opened(t)
	stale := member("self")
	stale.Version, stale.State = 9, ring.Leaving
	if err := c.Merge(tableOf(t, stale)); err != nil {
		t.Fatal(err)
	}
	if m, _ := c.table.Get("self"); m != c.Self() || m.Version != 10 || m.State != ring.Active || len(*spread) != 1 {
		t.Fatalf("%+v, told %v", m, *spread)
	}
	other := member("self")
	other.Version, other.Incarnation = 20, "other"
	if err := c.Merge(tableOf(t, other)); err != nil {
		t.Fatal(err)
	}
	if m, _ := c.table.Get("self"); m.Version != 21 || m.Incarnation != "inc-self" {
		t.Fatalf("%+v", m)
	}
	// What is older than the own record needs no answer.
	*spread = nil
	if err := c.Merge(tableOf(t, other)); err != nil || len(*spread) != 0 {
		t.Fatal(err, *spread)
	}
	given := c.Self()
	given.State, given.Version = ring.Forgotten, 30
	if err := c.Merge(tableOf(t, given)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Forgotten():
	default:
		t.Fatal("not told")
	}
	if err := c.SetState(ring.Leaving); !errors.Is(err, ring.ErrForgotten) || c.Self().State != ring.Active {
		t.Fatal(err)
	}
}

func TestSweep(t *testing.T) {
	c, now, spread := opened(t)
	q, gone, ing := member("q"), member("gone"), member("ing")
	q.Roles, gone.Roles = ring.Querier, ring.Querier
	known := tableOf(t, q, gone, ing)
	if err := c.Merge(known); err != nil {
		t.Fatal(err)
	}
	gone.State, gone.Version = ring.Left, 2
	if err := c.Merge(tableOf(t, gone)); err != nil {
		t.Fatal(err)
	}
	*spread = nil
	c.sweep()
	*now = now.Add(59 * time.Minute)
	c.sweep()
	if c.table.Len() != 4 || len(*spread) != 0 {
		t.Fatalf("too early: %v %v", c.table, *spread)
	}
	*now = now.Add(time.Minute)
	c.sweep()
	m, _ := c.table.Get("q")
	if _, ok := c.table.Get("gone"); ok || m.State != ring.Forgotten || len(*spread) != 1 {
		t.Fatalf("q is %s, told %v", m.State, *spread)
	}
	// Another's copy of the tombstone does not bring it back.
	if err := c.Merge(tableOf(t, gone)); err != nil || c.table.Len() != 3 {
		t.Fatal(err, c.table)
	}
	*now = now.Add(time.Hour)
	c.sweep()
	if _, ok := c.table.Get("q"); ok {
		t.Fatal("q's tombstone is still there")
	}
	*now = now.Add(1000 * time.Hour)
	c.sweep()
	if m, ok := c.table.Get("ing"); !ok || m.State != ring.Active {
		t.Fatal("an ingester is never forgotten by itself")
	}
	// Back to life: the clock starts anew.
	c.alive["q"] = peer{node: memberlist.Node{Name: "q"}}
	q.Version = 9
	if err := c.Merge(tableOf(t, q)); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(1000 * time.Hour)
	c.sweep()
	if m, _ := c.table.Get("q"); m.State != ring.Active {
		t.Fatal("a healthy member was forgotten")
	}
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	if got, err := loadTable(path); err != nil || got.Len() != 0 {
		t.Fatal("no file is an empty table", err)
	}
	want := tableOf(t, member("a"), member("b"))
	for range 2 {
		if err := saveTable(path, want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := loadTable(path); err != nil || got.Digest() != want.Digest() {
		t.Fatal(err, got)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadTable(path); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if err := os.WriteFile(path, good[:i], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadTable(path); !errors.Is(err, errDamaged) {
			t.Fatalf("%d bytes: %v", i, err)
		}
	}
	c := newCore(member("self"), ring.Config{ReplicationFactor: 3}, Deps{})
	c.path = path
	if err := c.open(); err != nil || c.table.Len() != 1 {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(kept, good[:len(good)-1]) {
		t.Fatal("the damaged file was not kept", err)
	}
	if got, err := loadTable(path); err != nil || got.Len() != 1 {
		t.Fatal(err)
	}
	if err := saveTable(filepath.Join(path, "below", "a", "file"), want); err == nil {
		t.Fatal("saved below a file")
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Bind = "localhost:0" }, ""},
		{func(c *Config) { c.Bind = "[::1]:0" }, ""},
		{func(c *Config) { c.Bind = "0.0.0.0:7946" }, "needs a secret key"},
		{func(c *Config) { c.Bind = ":7946" }, "needs a secret key"},
		{func(c *Config) { c.Bind = "192.0.2.1:7946" }, "needs a secret key"},
		{func(c *Config) { c.Bind, c.Insecure = "0.0.0.0:7946", true }, ""},
		{func(c *Config) { c.Bind, c.SecretKey = "0.0.0.0:7946", make([]byte, 32) }, ""},
		{func(c *Config) { c.SecretKey = make([]byte, 20) }, "20 bytes"},
		{func(c *Config) { c.Bind = "some.host:1" }, "not an IP"},
		{func(c *Config) { c.Bind = "127.0.0.1" }, "missing port"},
		{func(c *Config) { c.Advertise = "10.0.0.1" }, ""},
		{func(c *Config) { c.Advertise = "10.0.0.1:99999" }, "out of range"},
		{func(c *Config) { c.Join = []string{"a:1", "b"} }, `join address "b"`},
		{func(c *Config) { c.Join = []string{":1"} }, "no host"},
		{func(c *Config) { c.Label = "" }, "label"},
		{func(c *Config) { c.Self.State = ring.Left }, "cannot start left"},
		{func(c *Config) { c.Self.Name = "" }, "name is empty"},
		{func(c *Config) { c.Ring.ReplicationFactor = 0 }, "replication factor 0"},
		{func(c *Config) { c.Timing.Rejoin = 0 }, "interval"},
	} {
		cfg := DefaultConfig()
		cfg.Self = member("a")
		c.change(&cfg)
		_, err := New(cfg, Deps{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestLogWriter(t *testing.T) {
	var out bytes.Buffer
	w := logWriter{slog.New(slog.NewTextHandler(&out, nil))}
	for _, line := range []string{"[DEBUG] memberlist: quiet\n", "[INFO] memberlist: quiet\n", "[WARN] memberlist: loud\n", "[ERR] memberlist: louder\n", "plain\n"} {
		w.Write([]byte(line))
	}
	if s := out.String(); strings.Count(s, "level=WARN") != 2 || strings.Contains(s, "quiet") || !strings.Contains(s, `msg="memberlist: louder"`) {
		t.Fatal(s)
	}
}

func TestPacketFits(t *testing.T) {
	m := member(strings.Repeat("n", ring.MaxNameLen))
	m.Incarnation, m.Zone = strings.Repeat("i", ring.MaxIncarnationLen), strings.Repeat("z", ring.MaxZoneLen)
	m.GRPCAddr, m.HTTPAddr = strings.Repeat("g", ring.MaxAddressLen-2)+":1", strings.Repeat("h", ring.MaxAddressLen-2)+":1"
	// memberlist's packet, less its framing, label and encryption.
	limit := memberlist.DefaultLANConfig().UDPBufferSize - 64 - memberlist.LabelMaxSize
	if n := len(encodePacket(m)); n > limit {
		t.Fatalf("a record takes %d bytes, %d fit a packet", n, limit)
	}
}

func FuzzDecodeState(f *testing.F) {
	s := state{sender: "a", table: tableOf(f, member("a"), member("b")), peers: map[string]string{"b": "127.0.0.1:1"}}
	f.Add(s.encode())
	f.Add(encodePacket(member("a")))
	f.Add([]byte{stateFormat, 1, 'a', 2, 1, 0, 0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState(b); err == nil {
			again, err := decodeState(s.encode())
			if err != nil || again.sender != s.sender || again.table.Digest() != s.table.Digest() || len(again.peers) != len(s.peers) {
				t.Fatalf("%v: %+v became %+v", err, s, again)
			}
		} else if !errors.Is(err, errCorrupt) {
			t.Fatal(err)
		}
		if m, err := decodePacket(b); err == nil {
			if !bytes.Equal(encodePacket(m), b) {
				t.Fatal("not canonical")
			}
		} else if !errors.Is(err, errCorrupt) {
			t.Fatal(err)
		}
	})
}
