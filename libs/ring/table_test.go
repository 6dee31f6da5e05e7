package ring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Few names and versions, so that records collide in every way.
func drawMember(t *rapid.T) Member {
	return Member{
		Name:              rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
		Incarnation:       rapid.SampledFrom([]string{"i1", "i2", "i1~g", "-e1", "-e2"}).Draw(t, "incarnation"),
		Roles:             rapid.SampledFrom([]Role{Ingester, Querier, Ingester | Querier, 1 << 30}).Draw(t, "roles"),
		GRPCAddr:          rapid.SampledFrom([]string{"h:1", "h:2", "[::1]:9"}).Draw(t, "grpc"),
		Zone:              rapid.SampledFrom([]string{"", "z"}).Draw(t, "zone"),
		State:             State(rapid.IntRange(0, int(Lost)).Draw(t, "state")),
		MaxVersion:        uint32(rapid.IntRange(0, 300).Draw(t, "max")),
		Version:           rapid.Uint64Range(1, 3).Draw(t, "version"),
		ChangedMillis:     rapid.Int64Range(-2, 2).Draw(t, "changed"),
		ReplicationFactor: rapid.Uint32Range(0, MaxReplicationFactor).Draw(t, "rf"),
		Factors:           Factors(rapid.Uint16Range(0, 1<<MaxReplicationFactor-1).Draw(t, "factors")),
		extra:             rapid.SampledFrom([]string{"", "later"}).Draw(t, "extra"),
	}
}

func drawTable(t *rapid.T) Table {
	return tableOf(t, rapid.SliceOfN(rapid.Custom(drawMember), 0, 6).Draw(t, "members")...)
}

func merge(t interface{ Fatal(...any) }, a, b Table) Table {
	out, _, err := a.Merge(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(a, b Table) bool { return a.digest == b.digest && slices.Equal(a.records(), b.records()) }

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawTable(t), drawTable(t), drawTable(t)
		if ab, ba := merge(t, a, b), merge(t, b, a); !equal(ab, ba) {
			t.Fatalf("a∪b %v, b∪a %v", ab, ba)
		}
		if l, r := merge(t, merge(t, a, b), c), merge(t, a, merge(t, b, c)); !equal(l, r) {
			t.Fatalf("(a∪b)∪c %v, a∪(b∪c) %v", l, r)
		}
		if !equal(merge(t, a, a), a) {
			t.Fatal("a∪a is not a")
		}
		ab, changed, err := a.Merge(b)
		if err != nil {
			t.Fatal(err)
		}
		if ab.digest == a.digest != slices.Equal(ab.records(), a.records()) {
			t.Fatal("digest and content disagree")
		}
		for _, m := range ab.records() {
			old, ok := a.Incarnation(m.Name, m.Incarnation)
			if took := !ok || old != m; took != slices.Contains(changed, m) {
				t.Fatalf("changed %v, took %v of %v", changed, took, m)
			}
			if ok && m.Version < old.Version {
				t.Fatalf("%v gave way to the older %v", old, m)
			}
		}
		// R 20: no incarnation that stored something goes unseen, and the current one
		// is the newest.
		for _, from := range []Table{a, b} {
			for _, m := range from.records() {
				got, ok := ab.Incarnation(m.Name, m.Incarnation)
				if !m.ephemeral() && !ok || ok && newer(&m, &got) > 0 {
					t.Fatalf("%v became %v, %v", m, got, ok)
				}
				if cur, ok := ab.Get(m.Name); !m.Noted() && (!ok || newer(&m, &cur) > 0 || cur.Noted()) {
					t.Fatalf("%v is newer than the current %v", m, cur)
				}
			}
		}
	})
}

func TestAssert(t *testing.T) {
	self := ingester("a", "", Active)
	if m, replaced, err := (Table{}).Assert(self); err != nil || replaced != nil || m.Version != 1 {
		t.Fatalf("fresh: %v %v %v", m, replaced, err)
	}
	old := self
	old.Version = 41
	table := tableOf(t, old)
	m, replaced, err := table.Assert(self)
	if err != nil || replaced != nil || m.Version != 42 {
		t.Fatalf("restart: %v %v %v", m, replaced, err)
	}
	other := self
	other.Incarnation = "another"
	m, replaced, err = table.Assert(other)
	if err != nil || replaced == nil || *replaced != old || m.Version != 42 {
		t.Fatalf("new directory: %v %v %v", m, replaced, err)
	}
	if table, took, err := table.Put(m); err != nil || !took {
		t.Fatal("the new incarnation did not win", table)
	}
	table, tomb, err := table.Forget("a", 7)
	if err != nil || tomb.State != Forgotten || tomb.Version != 42 {
		t.Fatal(tomb, err)
	}
	if _, _, err := table.Assert(self); !errors.Is(err, ErrForgotten) {
		t.Fatalf("a forgotten directory came back: %v", err)
	}
	if m, _, err := table.Assert(other); err != nil || m.Version != 43 {
		t.Fatalf("a new directory may take the name: %v %v", m, err)
	}
	if _, _, err := table.Forget("a", 7); !errors.Is(err, ErrUnknownMember) {
		t.Fatal(err)
	}
	if _, _, err := table.Forget("nobody", 7); !errors.Is(err, ErrUnknownMember) {
		t.Fatal(err)
	}
	// A member that stores nothing may come back after a hasty Forget.
	q := self
	q.Name, q.Roles = "q", Querier
	table = tableOf(t, q)
	if table, _, err = table.Forget("q", 7); err != nil {
		t.Fatal(err)
	}
	if m, _, err := table.Assert(q); err != nil || m.Version != 3 {
		t.Fatal(m, err)
	}
}

func TestTableIsBounded(t *testing.T) {
	members := make([]Member, MaxMembers)
	for i := range members {
		members[i] = ingester(fmt.Sprintf("m%05d", i), "", Active)
	}
	full := newTable(members)
	got, took, err := full.Put(ingester("one-more", "", Active))
	if !errors.Is(err, ErrFull) || took || !equal(got, full) {
		t.Fatal(err, took, got.Len())
	}
	newer := members[7]
	newer.Version++
	if _, took, err := full.Put(newer); err != nil || !took {
		t.Fatal("a full table still takes news of its members", err)
	}
	b, _ := full.AppendBinary(nil)
	if got, err := DecodeTable(b); err != nil || !equal(got, full) {
		t.Fatal(err)
	}
}

func TestCommonVersion(t *testing.T) {
	at := func(name string, low, high uint32, s State) Member {
		m := ingester(name, "", s)
		m.MinVersion, m.MaxVersion = low, high
		return m
	}
	for _, c := range []struct {
		members []Member
		want    uint32
		ok      bool
	}{
		{nil, 0, false},
		{[]Member{at("a", 1, 4, Active), at("b", 2, 3, Joining)}, 3, true},
		{[]Member{at("a", 1, 4, Active), at("b", 1, 1, Left)}, 4, true},
		{[]Member{at("a", 3, 4, Active), at("b", 1, 2, Active)}, 0, false},
	} {
		if got, ok := tableOf(t, c.members...).CommonVersion(); got != c.want || ok != c.ok {
			t.Errorf("%v: %d %v, want %d %v", c.members, got, ok, c.want, c.ok)
		}
	}
}

func TestValidate(t *testing.T) {
	good := ingester("a", "", Active)
	for _, c := range []struct {
		change func(*Member)
		want   string
	}{
		{func(m *Member) {}, ""},
		{func(m *Member) { m.Name = "" }, "name is empty"},
		{func(m *Member) { m.Name = strings.Repeat("n", 129) }, "limit is 128"},
		{func(m *Member) { m.Name = "a/b" }, "slash"},
		{func(m *Member) { m.Name = "a\n" }, "printable"},
		{func(m *Member) { m.Incarnation = "" }, "incarnation is empty"},
		{func(m *Member) { m.Roles = 0 }, "no role"},
		{func(m *Member) { m.GRPCAddr = "nowhere" }, "missing port"},
		{func(m *Member) { m.HTTPAddr = strings.Repeat("h", 300) + ":1" }, "limit is 255"},
		{func(m *Member) { m.State = 99 }, "unknown state 99"},
		{func(m *Member) { m.MinVersion = 9 }, "above max version"},
		{func(m *Member) { m.ReplicationFactor = 16 }, "replication factor 16"},
		{func(m *Member) { m.Factors = 1 << 15 }, "factors 0x8000"},
		{func(m *Member) { m.extra = strings.Repeat("x", 2000) }, "limit is 1024"},
	} {
		m := good
		c.change(&m)
		err := m.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	big := good
	big.Name, big.Incarnation, big.Zone = strings.Repeat("n", MaxNameLen), strings.Repeat("i", MaxIncarnationLen), strings.Repeat("z", MaxZoneLen)
	big.GRPCAddr, big.HTTPAddr = strings.Repeat("g", MaxAddressLen-2)+":1", strings.Repeat("h", MaxAddressLen-2)+":1"
	big.Version, big.ChangedMillis, big.MaxVersion, big.Roles = ^uint64(0), -1<<63, ^uint32(0), ^Role(0)
	if err := big.Validate(); err != nil {
		t.Errorf("fields at their limits: %v", err)
	}
}

func TestRoleText(t *testing.T) {
	r, err := ParseRole("querier, ingester")
	if err != nil || r != Ingester|Querier || r.String() != "ingester,querier" {
		t.Fatal(r, err)
	}
	if _, err := ParseRole("king"); err == nil {
		t.Fatal("no such role")
	}
	b, err := json.Marshal(ingester("a", "z", Leaving))
	if err != nil || !bytes.Contains(b, []byte(`"roles":"ingester"`)) || !bytes.Contains(b, []byte(`"state":"leaving"`)) {
		t.Fatal(string(b), err)
	}
}

func TestTableRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		b, _ := table.AppendBinary(nil)
		got, err := DecodeTable(b)
		if err != nil || !equal(got, table) {
			t.Fatalf("%v: got %v, want %v", err, got, table)
		}
		for n := range b {
			if _, err := DecodeTable(b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

func FuzzDecodeTable(f *testing.F) {
	for _, members := range [][]Member{nil, {ingester("a", "z", Active)}, {ingester("a", "", Left), ingester("b", "", Joining)}} {
		b, _ := newTable(members).AppendBinary(nil)
		f.Add(b)
	}
	f.Add([]byte{tableFormat, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := DecodeTable(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("unclassified error %v", err)
			}
			return
		}
		if again, _ := table.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("not canonical: %x decodes, but is written as %x", b, again)
		}
		if !equal(merge(t, table, table), table) || !equal(merge(t, Table{}, table), table) {
			t.Fatal("merging is not union")
		}
	})
}
