package ring

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on the fields of a Member, in bytes. Together they keep a record
// within MaxRecordSize, so that one always fits a gossip packet.
const (
	MaxNameLen        = 128
	MaxIncarnationLen = 64
	MaxAddressLen     = 255
	MaxZoneLen        = 64

	// MaxRecordSize is the largest encoded Member.
	MaxRecordSize = 1024
)

// Role is a set of services that a member runs, as bits.
type Role uint32

// The roles. Bits unknown to this version are kept as they are.
const (
	Ingester Role = 1 << iota
	Distributor
	Querier
	Gateway
	Compactor
	Ruler
)

var roleNames = [...]string{"ingester", "distributor", "querier", "gateway", "compactor", "ruler"}

// Has reports whether r contains all roles of want.
func (r Role) Has(want Role) bool { return r&want == want }

// String returns the roles' names joined by commas, such as "ingester,querier".
func (r Role) String() string {
	var parts []string
	for rest := r; rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros32(uint32(rest)); i < len(roleNames) {
			parts = append(parts, roleNames[i])
		} else {
			parts = append(parts, fmt.Sprintf("role%d", i))
		}
	}
	return strings.Join(parts, ",")
}

// ParseRole reads what String writes, for known roles.
func ParseRole(s string) (Role, error) {
	var r Role
next:
	for part := range strings.SplitSeq(s, ",") {
		for i, name := range roleNames {
			if strings.TrimSpace(part) == name {
				r |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("ring: unknown role %q: want some of %s", part, strings.Join(roleNames[:], ", "))
	}
	return r, nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// State is where a member is in its life.
type State uint8

const (
	// Joining members are known but own nothing yet.
	Joining State = iota
	// Active members own their tokens. A restarted ingester stays active: it
	// keeps its place.
	Active
	// Leaving members are read-only. They keep their place for readers while
	// writes pass to the next member.
	Leaving
	// Left members went on purpose, after handing over what they had.
	Left
	// Forgotten members were given up by an operator. The data directory of a
	// forgotten ingester does not come back (see Assert).
	Forgotten
	// Gap is the state of a noted gap (see Table.NoteGap) that may still heal.
	Gap
	// Lost is the state of a past incarnation or a noted gap that cannot heal: what
	// only it held is gone. It stays until an operator acknowledges it, which makes
	// it Forgotten.
	Lost
)

var stateNames = [...]string{"joining", "active", "leaving", "left", "forgotten", "gap", "lost"}

// String returns the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state%d", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Gone reports whether the record is a tombstone: it stays in the table only
// so that older records of the member do not come back. So do records of what is
// missing.
func (s State) Gone() bool { return s >= Left }

// rank orders the states of records that claim the same version: who says that
// something was given up knows more than who says that it is missing.
func (s State) rank() int {
	if s == Forgotten {
		return len(stateNames)
	}
	return int(s)
}

// Member is one record of the table. It is a plain value and can be compared.
type Member struct {
	// Name is unique in the cluster and outlives restarts. Tokens follow from it.
	Name string `json:"name"`
	// Incarnation identifies what the member has stored: an id kept in its data
	// directory, or one made at start by members that store nothing, which begins
	// with EphemeralPrefix.
	Incarnation string `json:"incarnation"`
	// Roles are the services that the member runs.
	Roles Role `json:"roles"`
	// GRPCAddr is where other members call it, host:port.
	GRPCAddr string `json:"grpc_addr"`
	// HTTPAddr is where its pages and metrics are, host:port; may be empty.
	HTTPAddr string `json:"http_addr,omitempty"`
	// Zone is its failure domain; may be empty.
	Zone  string `json:"zone,omitempty"`
	State State  `json:"state"`
	// MinVersion to MaxVersion are the format and rpc versions that it reads.
	MinVersion uint32 `json:"min_version"`
	MaxVersion uint32 `json:"max_version"`
	// Version orders the records of one name. Whoever changes a record, in
	// general its owner, gives it a version greater than any it has seen.
	Version uint64 `json:"version"`
	// ChangedMillis is the writer's wall clock at the last change, in
	// milliseconds since 1970. It is for people; nothing is decided by it.
	ChangedMillis int64 `json:"changed_ms"`
	// ReplicationFactor is the one that the member is configured with; 0: it does not say.
	ReplicationFactor uint32 `json:"replication_factor,omitempty"`
	// Factors are the replication factors by which entries may have been placed that an
	// ingester holds and that may not be in the store yet.
	Factors Factors `json:"factors,omitempty"`

	// extra holds fields of newer versions, passed on as they came.
	extra string
}

// Changed returns ChangedMillis as a time.
func (m *Member) Changed() time.Time { return time.UnixMilli(m.ChangedMillis) }

// Stores reports whether the member keeps data that exists nowhere else.
func (m *Member) Stores() bool { return m.Roles.Has(Ingester) }

// inRing reports whether the member owns tokens.
func (m *Member) inRing() bool {
	return m.Stores() && (m.State == Active || m.State == Leaving)
}

// Validate returns everything that is wrong with the record, or nil.
func (m *Member) Validate() error {
	var errs []error
	text := func(field, s string, limit int) {
		switch {
		case len(s) > limit:
			errs = append(errs, fmt.Errorf("%s has %d bytes, limit is %d", field, len(s), limit))
		case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
			errs = append(errs, fmt.Errorf("%s %q is not printable text", field, s))
		}
	}
	if m.Name == "" {
		errs = append(errs, errors.New("name is empty"))
	}
	text("name", m.Name, MaxNameLen)
	// memberlist reads "name/host:port" in addresses.
	if strings.ContainsAny(m.Name, "/ ") {
		errs = append(errs, fmt.Errorf("name %q contains a slash or a space", m.Name))
	}
	if m.Incarnation == "" {
		errs = append(errs, errors.New("incarnation is empty"))
	}
	text("incarnation", m.Incarnation, MaxIncarnationLen)
	if m.Roles == 0 {
		errs = append(errs, errors.New("no role"))
	}
	addr := func(field, s string) {
		text(field, s, MaxAddressLen)
		if s == "" {
			return
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	addr("grpc address", m.GRPCAddr)
	addr("http address", m.HTTPAddr)
	text("zone", m.Zone, MaxZoneLen)
	if int(m.State) >= len(stateNames) {
		errs = append(errs, fmt.Errorf("unknown state %d", m.State))
	}
	if m.MinVersion > m.MaxVersion {
		errs = append(errs, fmt.Errorf("min version %d is above max version %d", m.MinVersion, m.MaxVersion))
	}
	if m.ReplicationFactor > MaxReplicationFactor {
		errs = append(errs, fmt.Errorf("replication factor %d: want at most %d", m.ReplicationFactor, MaxReplicationFactor))
	}
	if err := m.Factors.validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		if n := len(appendMember(nil, m)); n > MaxRecordSize {
			errs = append(errs, fmt.Errorf("record has %d bytes, limit is %d", n, MaxRecordSize))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("ring: member %q: %w", m.Name, errors.Join(errs...))
}

// newer orders the records of one name totally: by version, then, for two
// records that claim the same version, by state (a tombstone wins), incarnation
// and finally content. It returns a positive number if a is newer than b.
func newer(a, b *Member) int {
	if c := cmp.Compare(a.Version, b.Version); c != 0 {
		return c
	}
	if *a == *b {
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.State.rank(), b.State.rank()),
		cmp.Compare(a.Incarnation, b.Incarnation),
		cmp.Compare(string(appendMember(nil, a)), string(appendMember(nil, b))),
	)
}
