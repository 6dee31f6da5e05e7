package catalog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/objstore"
)

const (
	anyPartition    = "any"
	partitionLayout = "2006-01-02"
	day             = 24 * time.Hour

	// indexName and DeletesName are beside a tenant's partitions, whose names they do not resemble.
	indexName   = "index"
	deletesName = "deletes"
)

// Prefix returns what the keys of all objects of a tenant begin with, and no other tenant's. A
// tenant id is an element of the key as it is; what a key may not hold, which valid ids do not
// contain but for a dot at the end, becomes "=" and two hexadecimal digits.
func Prefix(tenant string) string {
	var b strings.Builder
	for i := range len(tenant) {
		c := tenant[i]
		plain := alphanumeric(c) || i > 0 && strings.IndexByte("!_.*'()-", c) >= 0 && (c != '.' || i < len(tenant)-1)
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String() + "/"
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// splitTenant takes what Prefix returned off a key.
func splitTenant(key string) (tenant, rest string, err error) {
	name, rest, ok := strings.Cut(key, "/")
	if !ok {
		return "", "", errors.New("it names no tenant")
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '=' {
			b.WriteByte(name[i])
			continue
		}
		if len(name) < i+3 {
			return "", "", errors.New("its tenant is cut")
		}
		c, err := hex.DecodeString(name[i+1 : i+3])
		if err != nil {
			return "", "", errors.New("its tenant is not hexadecimal")
		}
		b.WriteByte(c[0])
		i += 2
	}
	if tenant = b.String(); tenant == "" || Prefix(tenant) != name+"/" {
		return "", "", errors.New("its tenant could be written otherwise")
	}
	return tenant, rest, nil
}

// IndexKey returns the key of a tenant's index object.
func IndexKey(tenant string) string { return Prefix(tenant) + indexName }

// DeletesPrefix returns what the keys of a tenant's tombstones begin with.
func DeletesPrefix(tenant string) string { return Prefix(tenant) + deletesName + "/" }

// Key returns the key of a block's object: tenant/partition/level-minT-maxT-size-id. The block must
// be valid and its ID by NewID: of another ParseKey does not accept the key.
func Key(b Block) string {
	partition := anyPartition
	if !b.Partition.IsZero() {
		partition = b.Partition.UTC().Format(partitionLayout)
	}
	return fmt.Sprintf("%s%s/%d-%s-%s-%d-%s", Prefix(b.Tenant), partition, b.Level, keyTime(b.MinTime), keyTime(b.MaxTime), b.Size, b.ID)
}

// keyTime writes a minus as "n", since "-" separates.
func keyTime(t int64) string { return strings.Replace(strconv.FormatInt(t, 10), "-", "n", 1) }

// ParseKey returns what the key says about the block, which is all but what it was made from. It
// accepts only what Key returns.
func ParseKey(key string) (Block, error) {
	b, err := parseKey(key)
	if err == nil && Key(b) != key {
		err = errors.New("it could be written otherwise")
	}
	if err != nil {
		return Block{}, fmt.Errorf("%q is no block's key: %w", key, err)
	}
	return b, nil
}

func parseKey(key string) (b Block, err error) {
	if err := objstore.ValidateKey(key); err != nil {
		return b, err
	}
	var rest string
	if b.Tenant, rest, err = splitTenant(key); err != nil {
		return b, err
	}
	partition, name, ok := strings.Cut(rest, "/")
	if !ok {
		return b, errors.New("it names no partition")
	}
	if partition != anyPartition {
		if b.Partition, err = time.Parse(partitionLayout, partition); err != nil {
			return b, fmt.Errorf("partition %q is no day", partition)
		}
		if b.Partition.IsZero() {
			return b, errors.New("its partition is the zero time")
		}
	}
	parts := strings.Split(name, "-")
	if len(parts) != 5 {
		return b, fmt.Errorf("its name has %d parts, not level-minT-maxT-size-id", len(parts))
	}
	level, err0 := strconv.ParseUint(parts[0], 10, 8)
	var err1, err2, err3 error
	b.MinTime, err1 = strconv.ParseInt(strings.Replace(parts[1], "n", "-", 1), 10, 64)
	b.MaxTime, err2 = strconv.ParseInt(strings.Replace(parts[2], "n", "-", 1), 10, 64)
	b.Size, err3 = strconv.ParseInt(parts[3], 10, 64)
	if err := errors.Join(err0, err1, err2, err3); err != nil {
		return b, err
	}
	if b.Size < 0 {
		return b, errors.New("its size is negative")
	}
	b.Level, b.ID = int(level), ID(parts[4])
	if err := ValidateID(b.ID); err != nil {
		return b, err
	}
	return b, b.validate()
}
