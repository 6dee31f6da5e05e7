package lokiapi

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway/decode"
)

// push answers a push request; JSON comes in two forms, by path.
func (a *API) push(decodeJSON func([]byte, *decode.Reservation) (*ingestv1.WriteRequest, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		memory := a.deps.Reserve()
		defer memory.Release()
		req, decoding := a.decodePush(r, decodeJSON, memory)
		resp, err := a.deps.Write(r.Context(), req, decoding)
		if err == nil {
			memory.Reuse()
		}
		switch {
		case err != nil:
			writeError(w, err, "\n")
		case resp.GetRejectedEntries() > 0 || len(resp.GetRejections()) > 0:
			code, text := rejected(resp)
			http.Error(w, text, code)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

func (a *API) decodePush(r *http.Request, decodeJSON func([]byte, *decode.Reservation) (*ingestv1.WriteRequest, error), memory *decode.Reservation) (*ingestv1.WriteRequest, error) {
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "%v", err)
	}
	lim := a.limits(r)
	sizes := decode.Sizes{Wire: int64(lim.MaxRequestSize), Raw: int64(lim.MaxRequestRawSize)}
	body, err := decode.Body(r.Body, r.ContentLength, r.Header.Get("Content-Encoding"), sizes, memory)
	if err != nil {
		return nil, err
	}
	var req *ingestv1.WriteRequest
	if contentType == "application/json" {
		req, err = decodeJSON(body, memory)
	} else {
		var raw []byte
		if raw, err = decode.Snappy(body, sizes, memory); err != nil {
			return nil, err
		}
		req, err = decode.Loki(raw, memory)
		decode.Recycle(raw)
	}
	decode.RecycleBody(body)
	if err == nil && len(req.GetStreams()) == 0 {
		return nil, errNoStreams
	}
	return req, err
}

// errNoStreams has a status of its own, see writeError.
var errNoStreams = rpcerr.New(reasonNoStreams, "error at least one valid stream is required for ingestion")

const reasonNoStreams rpcerr.Reason = "NO_STREAMS"

// maxReasons is how many different reasons an error text has.
const maxReasons = 3

// rejected returns the status and text for a request of which entries were refused.
// 429 makes clients send the whole request again, so it is only for one of which
// nothing is stored and which may be taken later.
func rejected(resp *ingestv1.WriteResponse) (int, string) {
	code := http.StatusBadRequest
	if resp.GetAcceptedEntries() == 0 {
		code = http.StatusTooManyRequests
	}
	var texts []string
	for _, rej := range resp.GetRejections() {
		if pushv1.RejectReason(rej.GetReason()) != pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT {
			code = http.StatusBadRequest
		}
		if len(texts) < maxReasons {
			texts = append(texts, rej.GetMessage())
		}
	}
	text := strings.Join(texts, "; ")
	if more := len(resp.GetRejections()) - len(texts); more > 0 {
		text += fmt.Sprintf("; and %d more, %d entries refused in all", more, resp.GetRejectedEntries())
	}
	return code, text
}
