package rpcerr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errFull   = errors.New("the log is full")
	errTooOld = errors.New("too old")
	table     = Table{
		{Err: errFull, Reason: "WAL_FULL", Code: codes.ResourceExhausted},
		{Err: errTooOld, Reason: LimitExceeded, Public: true},
	}
)

// wire is what is left of a status after a trip: its protobuf form.
func wire(st *status.Status) error { return status.FromProto(st.Proto()).Err() }

func TestEveryReasonSurvives(t *testing.T) {
	for reason, k := range kinds {
		err := New(reason, "because of %d", 7).WithRetry(1500*time.Millisecond).With("limit", "7")
		if got := status.Code(ToStatus(fmt.Errorf("wrapped: %w", err)).Err()); got != k.code || got == codes.OK {
			t.Errorf("%s: code %v, want %v", reason, got, k.code)
		}
		back := FromStatus(wire(ToStatus(err)))
		var e *Error
		if !errors.As(back, &e) || e.Reason != reason || e.Message != "because of 7" || e.RetryAfter != 1500*time.Millisecond || e.Metadata["limit"] != "7" {
			t.Errorf("%s came back as %+v", reason, back)
		}
		if !errors.Is(back, New(reason, "")) || !Is(back, reason) || HTTPStatus(back) != k.http || HTTPStatus(err) != k.http {
			t.Errorf("%s: identity or HTTP status lost", reason)
		}
	}
}

func TestHTTPStatuses(t *testing.T) {
	for reason, want := range map[Reason]int{
		ParseError: 400, InvalidTenant: 400, InvalidLabels: 400, LimitExceeded: 400, TooLarge: 413, Unsupported: 501, RateLimited: 429,
		Overloaded: 503, DiskFull: 503, ReadOnly: 503, NoQuorum: 503, Incomplete: 503, DataLoss: 500, NotFound: 404, Unauthenticated: 401,
		PermissionDenied: 403, Canceled: 499, Timeout: 504, Internal: 500,
	} {
		if got := HTTPStatus(New(reason, "")); got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
	}
	for code, want := range map[codes.Code]int{codes.Unavailable: 503, codes.Unknown: 500, codes.OutOfRange: 400} {
		if got := HTTPStatus(status.Error(code, "x")); got != want {
			t.Errorf("%v: %d, want %d", code, got, want)
		}
	}
	if HTTPStatus(nil) != 200 || ToStatus(nil) != nil || FromStatus(nil) != nil || ReasonOf(nil) != "" {
		t.Error("nil is not no error")
	}
}

func TestTable(t *testing.T) {
	secret := fmt.Errorf("append to /var/lib/weir: %w", errFull)
	st := table.ToStatus(secret)
	if st.Code() != codes.ResourceExhausted || st.Message() != errFull.Error() {
		t.Error(st)
	}
	if back := table.FromStatus(wire(st)); !errors.Is(back, errFull) || errors.Is(back, errTooOld) || ReasonOf(back) != "WAL_FULL" {
		t.Errorf("%+v", back)
	}
	if got := table.HTTPStatus(secret); got != 429 {
		t.Error(got)
	}
	public := table.ToStatus(fmt.Errorf("entry 3: %w", errTooOld))
	if public.Message() != "entry 3: too old" || public.Code() != codes.InvalidArgument {
		t.Error(public)
	}
}

func TestNothingLeaks(t *testing.T) {
	for name, err := range map[string]error{
		"unknown":       errors.New("open /secret: no such file"),
		"wrapped cause": Wrap(errors.New("/secret"), Internal, "internal error"),
		"context":       fmt.Errorf("/secret: %w", context.Canceled),
		"in the table":  fmt.Errorf("/secret: %w", errFull),
		"around Error":  fmt.Errorf("/secret: %w", New(NotFound, "no such block")),
		"around status": fmt.Errorf("/secret: %w", status.Error(codes.NotFound, "no such block")),
	} {
		rec := httptest.NewRecorder()
		WriteHTTP(rec, httptest.NewRequest("GET", "/x", nil), table.ToError(err))
		if text := table.ToStatus(err).String() + rec.Body.String(); strings.Contains(text, "secret") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Reason
	}{
		{context.Canceled, Canceled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), Timeout},
		{&http.MaxBytesError{Limit: 5}, TooLarge},
		{errors.New("x"), Internal},
		{&Error{Message: "x"}, Internal},
		{status.Error(codes.Unavailable, "x"), Unavailable},
		{status.Error(codes.Unknown, "x"), Internal},
		{fmt.Errorf("x: %w", errors.Join(errors.New("y"), New(Fenced, ""))), Fenced},
	} {
		if got := ReasonOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
	// Contexts' errors keep their identity over the wire.
	if back := FromStatus(wire(ToStatus(context.DeadlineExceeded))); !errors.Is(back, context.DeadlineExceeded) {
		t.Error(back)
	}
	if back := FromStatus(wire(ToStatus(context.Canceled))); !errors.Is(back, context.Canceled) {
		t.Error(back)
	}
}

func TestAnyTextSurvives(t *testing.T) {
	for text, want := range map[string]string{
		"bad \xff byte":           "bad \uFFFD byte",
		strings.Repeat("é", 2000): strings.Repeat("é", 1022) + "…",
		strings.Repeat("x", 2048): strings.Repeat("x", 2048),
		"line\nbreak \x00 100%":   "line\nbreak \x00 100%",
	} {
		unary, _ := call(t, serve(t, nil, New(ParseError, "%s", text).With("k\xff", text)))
		var e *Error
		if !errors.As(unary, &e) || e.Reason != ParseError || e.Message != want || e.Metadata["k\uFFFD"] != want {
			t.Errorf("%.20q came back as %.60q, %v", text, unary, ReasonOf(unary))
		}
	}
}

func TestWriteHTTP(t *testing.T) {
	rec := httptest.NewRecorder()
	err := New(RateLimited, "slow down").WithRetry(1200 * time.Millisecond)
	WriteHTTP(rec, httptest.NewRequest("POST", "/loki/api/v1/push", nil), err)
	if rec.Code != 429 || rec.Body.String() != "slow down\n" || rec.Header().Get("Retry-After") != "2" {
		t.Error(rec.Code, rec.Body, rec.Header())
	}
	rec = httptest.NewRecorder()
	WriteHTTP(rec, httptest.NewRequest("POST", "/api/v1/push", nil), err)
	if want := `{"code":8,"reason":"RATE_LIMITED","message":"slow down","retry_after_ms":1200,"details":{}}` + "\n"; rec.Code != 429 ||
		rec.Body.String() != want || rec.Header().Get("Retry-After") != "2" || rec.Header().Get("Content-Type") != "application/json" {
		t.Error(rec.Code, rec.Body, rec.Header())
	}
}

// serve starts a server whose unary and stream method return err, and a client to it.
func serve(t *testing.T, log *slog.Logger, err error) *grpc.ClientConn {
	t.Helper()
	su, ss := ServerInterceptors(table, log)
	srv := grpc.NewServer(grpc.UnaryInterceptor(su), grpc.StreamInterceptor(ss), grpc.WaitForHandlers(true))
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Test", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if e := dec(in); e != nil {
				return nil, e
			}
			return i(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/test.Test/Unary"}, func(context.Context, any) (any, error) { return in, err })
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			return errors.Join(s.RecvMsg(new(emptypb.Empty)), s.SendMsg(new(emptypb.Empty)), err)
		}}},
	}, nil)
	l := bufconn.Listen(1 << 16)
	go srv.Serve(l) //nolint:errcheck // ends with Stop
	cu, cs := ClientInterceptors(table)
	conn, e := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(cu), grpc.WithStreamInterceptor(cs),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(func() { _ = conn.Close(); srv.Stop() })
	return conn
}

func call(t *testing.T, conn *grpc.ClientConn) (unary, stream error) {
	t.Helper()
	unary = conn.Invoke(t.Context(), "/test.Test/Unary", new(emptypb.Empty), new(emptypb.Empty))
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.Test/Stream")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(new(emptypb.Empty)), s.CloseSend(), s.RecvMsg(new(emptypb.Empty))); err != nil {
		t.Fatal(err)
	}
	return unary, s.RecvMsg(new(emptypb.Empty))
}

func TestInterceptors(t *testing.T) {
	unary, stream := call(t, serve(t, nil, fmt.Errorf("here: %w", errFull)))
	if !errors.Is(unary, errFull) || !errors.Is(stream, errFull) {
		t.Error(unary, stream)
	}
	unary, stream = call(t, serve(t, nil, nil))
	if unary != nil || stream != io.EOF { //nolint:errorlint // it must be io.EOF itself
		t.Error(unary, stream)
	}
	var out bytes.Buffer
	unary, stream = call(t, serve(t, slog.New(slog.NewTextHandler(&out, nil)), errors.New("disk on fire")))
	if ReasonOf(unary) != Internal || unary.Error() != "internal error" || stream.Error() != "internal error" {
		t.Error(unary, stream)
	}
	if n := strings.Count(out.String(), "disk on fire"); n < 2 {
		t.Error("the cause is not in the log:", out.String())
	}
}
