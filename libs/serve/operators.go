package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// Operators tells operators' calls from others'. The zero value takes all that come from this
// machine for theirs; with a token they have to show it, too: a proxy on this machine that does not
// say so makes everybody's calls look as if they were from here.
type Operators struct{ token string }

// NewOperators returns Operators with a token; "": none.
func NewOperators(token string) Operators { return Operators{token} }

// Check returns an error unless a call has the token, by its Authorization header or metadata
// ("Bearer TOKEN"). Where it is from is for the caller of Check to look at.
func (o Operators) Check(authorization string) error {
	if o.token == "" {
		return nil
	}
	got, want := sha256.Sum256([]byte(authorization)), sha256.Sum256([]byte("Bearer "+o.token))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return rpcerr.New(rpcerr.Unauthenticated, "operators' calls need the token of server.operator_token")
	}
	return nil
}

// Only is LoopbackOnly for those with the token.
func (o Operators) Only(next http.Handler) http.Handler {
	return LoopbackOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := o.Check(r.Header.Get("Authorization")); err != nil {
			rpcerr.WriteHTTP(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	}))
}
