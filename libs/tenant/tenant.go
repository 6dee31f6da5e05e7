// Package tenant carries the tenant of a request: from the door, through the context, over gRPC
// metadata to the other services.
//
// Who the tenant is, is decided once, at the door, by an [Authenticator] (authentication on) or by
// the X-Scope-OrgID header (authentication off). Behind the door services trust the metadata that
// the client interceptor of this package sets; it overwrites whatever a caller tried to smuggle
// through.
package tenant

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// Header chooses the tenant while authentication is off.
	Header = "X-Scope-OrgID"
	// MetadataKey is the gRPC metadata key of the tenant.
	MetadataKey = "x-scope-orgid"
	// Default is the tenant of a request that names none while authentication is off.
	Default = "fake"
	// MaxLength is the longest tenant id in bytes.
	MaxLength = 150
	// MaxTenants is the most tenants of one request.
	MaxTenants = 64
)

// separator is between tenants; no id has it.
const separator = "|"

// Join returns one text for several tenants, of which a request may read. It is equal
// for equal sets, and for one tenant its id.
func Join(ids []string) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), separator)
}

func validateAll(ids string) error {
	for id := range strings.SplitSeq(ids, separator) {
		if err := Validate(id); err != nil {
			return err
		}
	}
	return nil
}

func errSeveral() error { return rpcerr.New(rpcerr.InvalidTenant, "multiple org IDs present") }

// Validate returns nil if id is a tenant id: ^[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,149}$. Such an id
// is safe as a path element and as an object key. Else the error's reason is
// rpcerr.InvalidTenant. Ids are compared byte by byte: upper and lower case differ.
func Validate(id string) error {
	if id == "" {
		return rpcerr.New(rpcerr.InvalidTenant, "invalid tenant id: empty")
	}
	if len(id) > MaxLength {
		return rpcerr.New(rpcerr.InvalidTenant, "invalid tenant id: %d bytes long, at most %d are allowed", len(id), MaxLength)
	}
	if !alphanumeric(id[0]) {
		return rpcerr.New(rpcerr.InvalidTenant, "invalid tenant id %q: it must begin with a letter or digit", id)
	}
	for i := 1; i < len(id); i++ {
		if !alphanumeric(id[i]) && !special(id[i]) {
			return rpcerr.New(rpcerr.InvalidTenant, "invalid tenant id %q: only letters, digits and !_.*'()- are allowed", id)
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func special(c byte) bool {
	switch c {
	case '!', '_', '.', '*', '\'', '(', ')', '-':
		return true
	}
	return false
}

type contextKey struct{}

// NewContext returns ctx with the tenant id, which must be valid, or with several that
// [Join] has joined.
func NewContext(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the tenant id of ctx, false if there is none. Where a request has
// several tenants they are joined, which is no tenant's id: it is for messages. Whoever
// acts for a tenant asks [Require].
func FromContext(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(contextKey{}).(string)
	return id, ok
}

// Require returns the one tenant id of ctx. Without one the error's reason is
// rpcerr.Unauthenticated, with several rpcerr.InvalidTenant.
func Require(ctx context.Context) (string, error) {
	ids, err := RequireAll(ctx)
	if err != nil {
		return "", err
	}
	if len(ids) > 1 {
		return "", errSeveral()
	}
	return ids[0], nil
}

// RequireAll returns the tenant ids of ctx, sorted: one, or several if the request
// names several. Without one the error's reason is rpcerr.Unauthenticated.
func RequireAll(ctx context.Context) ([]string, error) {
	if id, ok := FromContext(ctx); ok {
		return strings.Split(id, separator), nil
	}
	return nil, rpcerr.New(rpcerr.Unauthenticated, "no org id")
}
