package weir

import (
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/conf"
)

// With a token, being on this machine does not make an operator, at any door.
func TestOperatorToken(t *testing.T) {
	const token = "0123456789abcdef"
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Server.OperatorToken = conf.NewSecret(token) })
	for _, path := range []string{"/flush", "/compact", "/log_level?log_level=info", "/ring?action=acknowledge&name=x", "/api/v1/admin/flush", "/api/v1/admin/compact"} {
		for _, with := range []string{"", "Bearer wrong", "Bearer " + token} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.HTTPAddr()+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", with)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if refused := resp.StatusCode == http.StatusUnauthorized; refused != (with != "Bearer "+token) {
				t.Errorf("%s with %q: %s", path, with, resp.Status)
			}
		}
	}
	for _, addr := range []string{p.GRPCAddr(), p.HTTPAddr()} {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // done
		admin := adminv1.NewAdminServiceClient(conn)
		for _, with := range []string{"", "Bearer wrong", "Bearer " + token} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", with)
			refused := func(what string, err error) {
				t.Helper()
				if is := status.Code(err) == codes.Unauthenticated; is != (with != "Bearer "+token) {
					t.Errorf("%s at %s with %q: %v", what, addr, with, err)
				}
			}
			_, err := admin.Flush(ctx, &adminv1.FlushRequest{})
			refused("flush", err)
			_, err = admin.Compact(ctx, &adminv1.CompactRequest{})
			refused("compact", err)
			_, err = admin.Leave(ctx, &adminv1.LeaveRequest{})
			refused("leave", err)
			_, err = admin.Forget(ctx, &adminv1.ForgetRequest{Name: "x"})
			refused("forget", err)
			_, err = admin.AcknowledgeLoss(ctx, &adminv1.AcknowledgeLossRequest{Name: "x"})
			refused("acknowledge", err)
			if _, err := admin.Members(ctx, &adminv1.MembersRequest{}); err != nil {
				t.Error(err)
			}
		}
	}
}
