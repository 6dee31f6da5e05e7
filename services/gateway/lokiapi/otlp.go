package lokiapi

import (
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway/decode"
)

// otlp answers OpenTelemetry's push of logs over HTTP.
func (a *API) otlp(w http.ResponseWriter, r *http.Request) {
	memory := a.deps.Reserve()
	defer memory.Release()
	req, decoding := a.decodeOTLP(r, memory)
	resp, err := a.deps.Write(r.Context(), req, decoding)
	if err == nil {
		memory.Reuse()
	}
	switch {
	case err != nil:
		e := rpcerr.Table(nil).ToError(err)
		rpcerr.SetRetryAfter(w.Header(), e)
		code := e.GRPCStatus().Code()
		if e.Reason == reasonNoStreams {
			code = codes.InvalidArgument
		}
		writeOTLPError(w, statusCode(e), code, e.Error())
	case resp.GetRejectedEntries() > 0 || len(resp.GetRejections()) > 0:
		status, text := rejected(resp)
		code := codes.InvalidArgument
		if status == http.StatusTooManyRequests {
			code = codes.ResourceExhausted
		}
		writeOTLPError(w, status, code, text)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (a *API) decodeOTLP(r *http.Request, memory *decode.Reservation) (*ingestv1.WriteRequest, error) {
	contentType := r.Header.Get("Content-Type")
	decoder := decode.OTLP
	switch contentType {
	case "application/x-protobuf":
	case "application/json":
		decoder = decode.OTLPJSON
	default:
		return nil, rpcerr.New(rpcerr.InvalidArgument, "content type: %s is not supported", contentType)
	}
	lim := a.limits(r)
	sizes := decode.Sizes{Wire: int64(lim.MaxRequestSize), Raw: int64(lim.MaxRequestRawSize)}
	body, err := decode.OTLPBody(r.Body, r.ContentLength, r.Header.Get("Content-Encoding"), sizes, memory)
	if err != nil {
		return nil, err
	}
	req, err := decoder(body, lim.OTLP(), memory)
	if err == nil && len(req.GetStreams()) == 0 {
		return nil, errNoStreams
	}
	return req, err
}

// writeOTLPError answers with a google.rpc.Status, as exporters expect. They try again
// after a 503, not after a 500.
func writeOTLPError(w http.ResponseWriter, httpStatus int, code codes.Code, text string) {
	if httpStatus == http.StatusInternalServerError {
		httpStatus = http.StatusServiceUnavailable
	}
	body, err := proto.Marshal(&status.Status{Code: int32(code), Message: text})
	if err != nil {
		body = nil // a text that is not UTF-8; the status says the most
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(body) // the client is gone
}
