package source

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // senders compress
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
)

// OTLP receives OpenTelemetry's logs over HTTP and gRPC. It answers when the
// entries are on disk.
type OTLP struct {
	collogs.UnimplementedLogsServiceServer
	h      *Hub
	cfg    *config.OTLP
	labels map[string]bool
}

// defaultLabelAttributes are the resource attributes that become labels where the
// configuration names none.
var defaultLabelAttributes = []string{
	"service.name", "service.namespace", "service.instance.id", "deployment.environment", "deployment.environment.name", "cloud.region",
	"cloud.availability_zone", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "container.name",
	"k8s.replicaset.name", "k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name",
}

// NewOTLP makes an OTLP.
func NewOTLP(h *Hub, cfg *config.OTLP) *OTLP {
	o := &OTLP{h: h, cfg: cfg, labels: map[string]bool{}}
	names := cfg.LabelAttributes
	if len(names) == 0 {
		names = defaultLabelAttributes
	}
	for _, n := range names {
		o.labels[n] = true
	}
	return o
}

func (o *OTLP) limit() int64 {
	if o.cfg.MaxBytes > 0 {
		return int64(o.cfg.MaxBytes)
	}
	return 64 << 20
}

// Run implements Source.
func (o *OTLP) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	n := 0
	if o.cfg.Listen != "" {
		n++
		mux := http.NewServeMux()
		mux.HandleFunc("POST /v1/logs", o.http)
		mux.HandleFunc("POST /otlp/v1/logs", o.http)
		wg.Go(func() { errs <- serveHTTP(ctx, o.h, "otlp", o.cfg.Listen, nil, mux) })
	}
	if o.cfg.GRPCListen != "" {
		n++
		wg.Go(func() { errs <- o.grpc(ctx) })
	}
	for ; n > 0; n-- {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func (o *OTLP) grpc(ctx context.Context) error {
	lis, err := net.Listen("tcp", o.cfg.GRPCListen)
	if err != nil {
		return err
	}
	o.h.log().Info("listening", "kind", "otlp grpc", "address", lis.Addr().String())
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(int(o.limit())), grpc.MaxConcurrentStreams(maxPushes))
	collogs.RegisterLogsServiceServer(srv, o)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	err = srv.Serve(lis)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Export implements the gRPC service.
func (o *OTLP) Export(ctx context.Context, req *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	if err := o.take(ctx, "grpc", req, false); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &collogs.ExportLogsServiceResponse{}, nil
}

func (o *OTLP) http(w http.ResponseWriter, r *http.Request) {
	b, err := readBody(r, o.limit())
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	req := &collogs.ExportLogsServiceRequest{}
	if err == nil {
		if kind == "application/json" {
			err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, req)
		} else {
			err = proto.Unmarshal(b, req)
		}
	}
	if err != nil {
		o.h.Count("otlp", "parse")
		code := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), code)
		return
	}
	if err := o.take(r.Context(), r.RemoteAddr, req, kind == "application/json"); err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not stored: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	var out []byte
	resp := &collogs.ExportLogsServiceResponse{}
	if kind == "application/json" {
		out, _ = protojson.Marshal(resp)
		w.Header().Set("Content-Type", "application/json")
	} else {
		out, _ = proto.Marshal(resp)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}
	_, _ = w.Write(out)
}

func (o *OTLP) take(ctx context.Context, peer string, req *collogs.ExportLogsServiceRequest, isJSON bool) error {
	ents := o.entries(req, isJSON, time.Now())
	port := o.h.Open("otlp", peer, "")
	defer o.h.Done(port)
	if err := port.Put(ctx, ents, ""); err != nil {
		return err
	}
	return port.Sync(ctx)
}

// entries makes entries of a request.
func (o *OTLP) entries(req *collogs.ExportLogsServiceRequest, isJSON bool, now time.Time) (out []entry.Entry) {
	for _, rl := range req.GetResourceLogs() {
		labels := maps.Clone(o.cfg.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		resource := map[string]string{}
		for _, a := range rl.GetResource().GetAttributes() {
			n, v := attributeName(a.GetKey()), attributeText(a.GetValue())
			labels["__otlp_resource_"+n] = v
			if o.labels[a.GetKey()] {
				labels[n] = v
			} else {
				resource[n] = v
			}
		}
		if labels["service_name"] == "" {
			labels["service_name"] = "unknown_service"
		}
		set, ok := o.h.Relabel.Set(labels)
		if !ok {
			continue
		}
		for _, sl := range rl.GetScopeLogs() {
			scope := maps.Clone(resource)
			add(scope, "scope_name", sl.GetScope().GetName())
			add(scope, "scope_version", sl.GetScope().GetVersion())
			for _, a := range sl.GetScope().GetAttributes() {
				add(scope, attributeName(a.GetKey()), attributeText(a.GetValue()))
			}
			for _, r := range sl.GetLogRecords() {
				out = append(out, record(r, set, scope, isJSON, now))
			}
		}
	}
	return out
}

func add(m map[string]string, name, value string) {
	if value != "" {
		m[name] = value
	}
}

func record(r *logs.LogRecord, set *entry.Set, scope map[string]string, isJSON bool, now time.Time) entry.Entry {
	meta := maps.Clone(scope)
	for _, a := range r.GetAttributes() {
		add(meta, attributeName(a.GetKey()), attributeText(a.GetValue()))
	}
	id := hex.EncodeToString
	if isJSON { // whose ids are hexadecimal and were taken for base64
		id = base64.StdEncoding.EncodeToString
	}
	add(meta, "trace_id", id(r.GetTraceId()))
	add(meta, "span_id", id(r.GetSpanId()))
	add(meta, "severity_text", r.GetSeverityText())
	if n := r.GetSeverityNumber(); n != 0 {
		meta["severity_number"] = strconv.Itoa(int(n))
	}
	if n := r.GetObservedTimeUnixNano(); n != 0 {
		meta["observed_timestamp"] = strconv.FormatUint(n, 10)
	}
	if n := r.GetFlags(); n != 0 {
		meta["flags"] = strconv.FormatUint(uint64(n), 10)
	}
	t := int64(cmp.Or(r.GetTimeUnixNano(), r.GetObservedTimeUnixNano()))
	e := entry.Entry{Labels: set, Line: []byte(attributeText(r.GetBody())), Metadata: model.LabelsFromMap(meta), Time: t, OwnTime: t > 0}
	if t <= 0 {
		e.Time = now.UnixNano()
	}
	return e
}

var oddAttribute = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func attributeName(s string) string {
	s = oddAttribute.ReplaceAllString(s, "_")
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		s = "key_" + s
	}
	return cmp.Or(s, "_")
}

// attributeText gives a value as text: lists and maps as JSON.
func attributeText(v *common.AnyValue) string {
	switch x := v.GetValue().(type) {
	case nil:
		return ""
	case *common.AnyValue_StringValue:
		return x.StringValue
	case *common.AnyValue_BoolValue:
		return strconv.FormatBool(x.BoolValue)
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(x.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		return strconv.FormatFloat(x.DoubleValue, 'g', -1, 64)
	case *common.AnyValue_BytesValue:
		return base64.StdEncoding.EncodeToString(x.BytesValue)
	}
	b, _ := json.Marshal(attributeValue(v, 0))
	return string(b)
}

func attributeValue(v *common.AnyValue, depth int) any {
	if depth > 32 {
		return nil
	}
	switch x := v.GetValue().(type) {
	case *common.AnyValue_ArrayValue:
		out := []any{}
		for _, e := range x.ArrayValue.GetValues() {
			out = append(out, attributeValue(e, depth+1))
		}
		return out
	case *common.AnyValue_KvlistValue:
		out := map[string]any{}
		for _, e := range x.KvlistValue.GetValues() {
			out[e.GetKey()] = attributeValue(e.GetValue(), depth+1)
		}
		return out
	case *common.AnyValue_IntValue:
		return x.IntValue
	case *common.AnyValue_BoolValue:
		return x.BoolValue
	case *common.AnyValue_DoubleValue:
		return x.DoubleValue
	}
	return attributeText(v)
}
