package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-logs/weir/gen"
	admingw "github.com/weir-logs/weir/gen/gateway/weir/admin/v1"
	pushgw "github.com/weir-logs/weir/gen/gateway/weir/push/v1"
	querygw "github.com/weir-logs/weir/gen/gateway/weir/query/v1"
	storagegw "github.com/weir-logs/weir/gen/gateway/weir/storage/v1"
	tailgw "github.com/weir-logs/weir/gen/gateway/weir/tail/v1"
	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/gateway/decode"
	"github.com/weir-logs/weir/services/gateway/lokiapi"
)

// jsonMemory is how many times its size a JSON body takes in memory once decoded.
const jsonMemory = 4

// restRoutes adds /api/v1/ to a mux: REST by grpc-gateway, through this process's own
// doors, so that REST has what gRPC has.
func (g *Gateway) restRoutes(mux *http.ServeMux) error {
	rest := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, restMarshaler{&runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
			UnmarshalOptions: protojson.UnmarshalOptions{RecursionLimit: 32},
		}}),
		// Tenant, trace and request id travel in the context; nothing that a client
		// writes into a header becomes metadata of a call.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			writeRESTError(w, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			reason := rpcerr.InvalidArgument
			if code == http.StatusNotFound {
				reason = rpcerr.NotFound
			}
			rpcerr.WriteJSON(w, code, rpcerr.New(reason, "%s: %s %s", strings.ToLower(http.StatusText(code)), r.Method, r.URL.Path))
		}),
		runtime.WithStreamErrorHandler(func(ctx context.Context, err error) *status.Status {
			if p, ok := ctx.Value(streamStatus{}).(*int); ok {
				*p = rpcerr.HTTPStatus(err)
			}
			return rpcerr.ToStatus(err)
		}),
		runtime.SetQueryParameterParser(strictQuery{}),
	)
	ctx := context.Background() // nothing waits for it
	err := errors.Join(
		pushgw.RegisterPushServiceHandlerClient(ctx, rest, pushv1.NewPushServiceClient(g.deps.Own)),
		querygw.RegisterQueryServiceHandlerClient(ctx, rest, queryv1.NewQueryServiceClient(g.deps.Own)),
		tailgw.RegisterTailServiceHandlerClient(ctx, rest, tailv1.NewTailServiceClient(g.deps.Own)),
		storagegw.RegisterStorageServiceHandlerClient(ctx, rest, storagev1.NewStorageServiceClient(g.deps.Own)),
		admingw.RegisterAdminServiceHandlerClient(ctx, rest, adminv1.NewAdminServiceClient(g.deps.Own)),
	)
	if err != nil {
		return err
	}
	handler := http.NewCrossOriginProtection().Handler(g.restBody(rest))
	zipped := compress(handler)
	mux.HandleFunc("/api/v1/", func(w http.ResponseWriter, r *http.Request) {
		if LongLived(r) {
			handler.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})
	// REST comes in by the door that trusts its callers.
	mux.Handle("POST /api/v1/admin/", g.deps.Operators.Only(handler))
	mux.Handle("GET /api/v1/openapi.json", compress(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(gen.OpenAPI) // the client is gone
	})))
	return nil
}

// compress answers with gzip where that is accepted and worth it: fast, for who asks waits.
var compress = func() func(http.Handler) http.HandlerFunc {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		panic(err) // of the options above
	}
	return wrap
}()

// restBody reads a request's body within the tenant's limits before next sees it, and
// brings times and durations of the query string into the form that next reads.
func (g *Gateway) restBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff") // log lines are no pages
		code := 0
		r = r.WithContext(context.WithValue(r.Context(), streamStatus{}, &code))
		if err := friendlyQuery(r); err != nil {
			writeRESTError(w, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			id, _ := tenant.FromContext(r.Context())
			lim := g.deps.Limits.For(id)
			memory := g.reserve()
			defer memory.Release()
			// What it decodes to is one message, which may not be larger than one on the wire.
			sizes := decode.Sizes{Wire: int64(lim.MaxRequestSize), Raw: int64(min(lim.MaxRequestSize, lim.MaxRequestRawSize))}
			body, err := decode.Body(r.Body, r.ContentLength, r.Header.Get("Content-Encoding"), sizes, memory)
			if err == nil {
				err = memory.Grow(jsonMemory * len(body))
			}
			if err != nil {
				writeRESTError(w, err)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			r.ContentLength = int64(len(body))
		}
		next.ServeHTTP(&streamWriter{ResponseWriter: w, code: &code}, r)
	})
}

// streamStatus is the key of where the status of a failed stream is put: grpc-gateway
// would derive it from the code alone.
type streamStatus struct{}

type streamWriter struct {
	http.ResponseWriter
	code *int
}

func (w *streamWriter) WriteHeader(code int) {
	if *w.code != 0 {
		code = *w.code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *streamWriter) Flush()                      { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func writeRESTError(w http.ResponseWriter, err error) {
	rpcerr.WriteJSON(w, rpcerr.HTTPStatus(err), err)
}

// restMarshaler is JSON as REST speaks it: a body is one value, and streams are
// newline-delimited.
type restMarshaler struct{ *runtime.JSONPb }

// Marshal writes the error of a stream in the form of all errors.
func (m restMarshaler) Marshal(v any) ([]byte, error) {
	if chunk, ok := v.(map[string]proto.Message); ok {
		if st, ok := chunk["error"].(*spb.Status); ok {
			return json.Marshal(map[string]rpcerr.JSON{"error": rpcerr.ToJSON(status.ErrorProto(st))})
		}
	}
	return m.JSONPb.Marshal(v)
}

// NewDecoder returns a decoder of a body that holds one value and nothing else.
func (m restMarshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return io.EOF
		}
		if msg, ok := v.(proto.Message); ok {
			return m.UnmarshalOptions.Unmarshal(body, msg)
		}
		return m.Unmarshal(body, v)
	})
}

// StreamContentType is the type of a streamed answer.
func (restMarshaler) StreamContentType(any) string { return "application/x-ndjson" }

// strictQuery reads query strings and refuses parameters that no field has.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse implements runtime.QueryParameterParser.
func (q strictQuery) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	known := m.ProtoReflect().Descriptor().Fields()
	for key := range values {
		name, _, _ := strings.Cut(key, ".")
		name, _, _ = strings.Cut(name, "[")
		if known.ByName(protoreflect.Name(name)) == nil && known.ByJSONName(name) == nil {
			return rpcerr.New(rpcerr.InvalidArgument, "unknown parameter %q", key)
		}
	}
	return q.DefaultQueryParser.Parse(m, values, filter)
}

// friendlyQuery lets the query string give times as Loki's API takes them, and
// durations as Go and LogQL write them.
func friendlyQuery(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return rpcerr.New(rpcerr.InvalidArgument, "the query string is malformed: %v", err)
	}
	changed := false
	if err := lokiapi.ValidText(values); err != nil {
		return err
	}
	for key, list := range values {
		_, last, nested := strings.Cut(key, ".")
		if !nested {
			last = key
		}
		var convert func(string) (string, error)
		switch last {
		case "start", "end", "time":
			convert = lokiapi.TimeText
		case "step", "interval":
			convert = lokiapi.DurationText
		default:
			continue
		}
		for i, v := range list {
			if list[i], err = convert(v); err != nil {
				return rpcerr.New(rpcerr.InvalidArgument, "parameter %q: %v", key, err)
			}
			changed = changed || list[i] != v
		}
	}
	if changed {
		u := *r.URL
		u.RawQuery = values.Encode()
		r.URL = &u
	}
	return nil
}
