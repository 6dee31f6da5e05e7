package tenant_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// pattern is the definition; Validate is its faster twin.
var pattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,149}$`)

var ids = []string{
	"fake", "a", "A-b_c.d!e*f'g(h)", strings.Repeat("x", 150), "0", "a..b", "",
	strings.Repeat("x", 151), ".", "..", "../etc", "a/b", "a:b", "a|b", "%252e", "a\x00", "a\n", "-a", "_a", "а", "a b", "é", "a\\b", ".hidden",
}

func TestValidate(t *testing.T) {
	for _, id := range ids {
		err := tenant.Validate(id)
		if want := pattern.MatchString(id) && !strings.HasSuffix(id, "\n"); (err == nil) != want {
			t.Errorf("%q: %v, want valid: %v", id, err, want)
		}
		if err != nil && !rpcerr.Is(err, rpcerr.InvalidTenant) {
			t.Errorf("%q: reason %s", id, rpcerr.ReasonOf(err))
		}
	}
}

func FuzzValidate(f *testing.F) {
	for _, id := range ids {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		err := tenant.Validate(id)
		if (err == nil) != (pattern.MatchString(id) && !strings.HasSuffix(id, "\n")) {
			t.Fatalf("%q: %v", id, err)
		}
		if err == nil && path.Join("/root", id) != "/root/"+id {
			t.Fatalf("%q leaves its root", id)
		}
	})
}

func get(h http.Handler, set ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil)
	for i := 0; i < len(set); i += 2 {
		r.Header.Add(set[i], set[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, err := tenant.Require(r.Context())
	if err != nil {
		rpcerr.WriteHTTP(w, r, err)
		return
	}
	_, _ = io.WriteString(w, id)
})

func TestMiddleware(t *testing.T) {
	h := tenant.Middleware(tenant.ByHeader{})(echo)
	for _, c := range []struct {
		set  []string
		code int
		body string
	}{
		{nil, 200, "fake"},
		{[]string{tenant.Header, "team-a"}, 200, "team-a"},
		{[]string{tenant.Header, ""}, 200, "fake"},
		{[]string{tenant.Header, "a|b"}, 400, "multiple org IDs present\n"},
		{[]string{tenant.Header, "a", tenant.Header, "b"}, 400, "multiple org IDs present\n"},
		{[]string{tenant.Header, "../x"}, 400, "invalid tenant id \"../x\": it must begin with a letter or digit\n"},
		{[]string{"Grpc-Metadata-X-Scope-OrgID", "b", "X-Forwarded-Org", "c"}, 200, "fake"},
	} {
		if w := get(h, c.set...); w.Code != c.code || w.Body.String() != c.body {
			t.Errorf("%v: %d %q, want %d %q", c.set, w.Code, w.Body, c.code, c.body)
		}
	}
	if w := get(echo); w.Code != 401 || w.Body.String() != "no org id\n" {
		t.Error("without a middleware:", w.Code, w.Body)
	}
}

// byToken allows one tenant and never looks at the tenant header.
type byToken struct{ id string }

func (b byToken) Authenticate(_ context.Context, h http.Header) (string, error) {
	if h.Get("Authorization") != "Bearer good" {
		return "", rpcerr.New(rpcerr.Unauthenticated, "invalid credentials")
	}
	return b.id, nil
}

func TestAuthenticator(t *testing.T) {
	h := tenant.Middleware(byToken{"mine"})(echo)
	if w := get(h, tenant.Header, "theirs"); w.Code != 401 {
		t.Error(w.Code, w.Body)
	}
	if w := get(h, tenant.Header, "theirs", "Authorization", "Bearer good"); w.Code != 200 || w.Body.String() != "mine" {
		t.Error(w.Code, w.Body)
	}
	// What an Authenticator says is checked too.
	if w := get(tenant.Middleware(byToken{"../mine"})(echo), "Authorization", "Bearer good"); w.Code != 400 {
		t.Error(w.Code, w.Body)
	}
}

func TestServerInterceptors(t *testing.T) {
	for _, c := range []struct {
		name   string
		auth   tenant.Authenticator
		md     metadata.MD
		method string
		want   string
		reason rpcerr.Reason
	}{
		{"metadata", tenant.ByHeader{}, metadata.Pairs(tenant.MetadataKey, "a"), "/x/y", "a", ""},
		{"default", tenant.ByHeader{}, nil, "/x/y", "fake", ""},
		{"two", tenant.ByHeader{}, metadata.Pairs(tenant.MetadataKey, "a", tenant.MetadataKey, "b"), "/x/y", "", rpcerr.InvalidTenant},
		{"credentials", byToken{"mine"}, metadata.Pairs("authorization", "Bearer good", tenant.MetadataKey, "a"), "/x/y", "mine", ""},
		{"no credentials", byToken{"mine"}, metadata.Pairs(tenant.MetadataKey, "mine"), "/x/y", "", rpcerr.Unauthenticated},
		{"open method", byToken{"mine"}, nil, "/health", "", ""},
	} {
		unary, stream := tenant.ServerInterceptors(c.auth, func(m string) bool { return m == "/health" })
		ctx := metadata.NewIncomingContext(t.Context(), c.md)
		check := func(kind string, got string, err error) {
			if got != c.want || rpcerr.ReasonOf(err) != c.reason {
				t.Errorf("%s, %s: %q, %v", c.name, kind, got, err)
			}
		}
		got := ""
		_, err := unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: c.method}, func(ctx context.Context, _ any) (any, error) {
			got, _ = tenant.FromContext(ctx)
			return nil, nil
		})
		check("unary", got, err)
		got = ""
		err = stream(nil, fakeStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: c.method}, func(_ any, ss grpc.ServerStream) error {
			got, _ = tenant.FromContext(ss.Context())
			return nil
		})
		check("stream", got, err)
	}
}

type fakeStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (f fakeStream) Context() context.Context { return f.ctx }

func TestClientInterceptors(t *testing.T) {
	smuggled := metadata.AppendToOutgoingContext(t.Context(), tenant.MetadataKey, "theirs", "other", "kept")
	for _, c := range []struct {
		ctx  context.Context
		want []string
	}{
		{tenant.NewContext(t.Context(), "a"), []string{"a"}},
		{tenant.NewContext(smuggled, "a"), []string{"a"}},
		{smuggled, nil},
		{t.Context(), nil},
	} {
		unary, stream := tenant.ClientInterceptors()
		check := func(ctx context.Context) {
			md, _ := metadata.FromOutgoingContext(ctx)
			if got := md.Get(tenant.MetadataKey); strings.Join(got, ",") != strings.Join(c.want, ",") || len(got) != len(c.want) {
				t.Errorf("sent %v, want %v", got, c.want)
			}
		}
		_ = unary(c.ctx, "/x/y", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			check(ctx)
			return nil
		})
		_, _ = stream(c.ctx, nil, nil, "/x/y", func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			check(ctx)
			return nil, nil
		})
	}
	if md, _ := metadata.FromOutgoingContext(smuggled); md.Get("other")[0] != "kept" {
		t.Error("other metadata was lost")
	}
}

func TestSeveral(t *testing.T) {
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ids, err := tenant.RequireAll(r.Context())
		if err != nil {
			rpcerr.WriteHTTP(w, r, err)
			return
		}
		_, _ = io.WriteString(w, strings.Join(ids, ","))
	})
	many := strings.Repeat("a|", tenant.MaxTenants)
	for _, c := range []struct {
		header string
		code   int
		body   string
	}{
		{"b", 200, "b"},
		{"b|a|c", 200, "a,b,c"},
		{"b|b", 200, "b"},
		{many + "b", 400, "65 org IDs present, at most 64 are allowed\n"},
		{many[2:] + "b", 200, "a,b"},
		{"a|", 400, "invalid tenant id: empty\n"},
		{"|", 400, "invalid tenant id: empty\n"},
		{"a|../b", 400, "invalid tenant id \"../b\": it must begin with a letter or digit\n"},
	} {
		if w := get(tenant.Middleware(tenant.ByHeader{})(all), tenant.Header, c.header); w.Code != c.code || w.Body.String() != c.body {
			t.Errorf("%.20s: %d %q, want %d %q", c.header, w.Code, w.Body, c.code, c.body)
		}
	}
	// One that repeats is one; whoever acts for one gets no other.
	if w := get(tenant.Middleware(tenant.ByHeader{})(echo), tenant.Header, "b|b"); w.Code != 200 || w.Body.String() != "b" {
		t.Error(w.Code, w.Body)
	}
	// What an Authenticator says may be several.
	if w := get(tenant.Middleware(byToken{"a|b"})(all), "Authorization", "Bearer good"); w.Body.String() != "a,b" {
		t.Error(w.Code, w.Body)
	}
	if w := get(tenant.Middleware(byToken{"a|/"})(all), "Authorization", "Bearer good"); w.Code != 400 {
		t.Error(w.Code, w.Body)
	}
}
