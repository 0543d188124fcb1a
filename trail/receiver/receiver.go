// Package receiver receives OTLP over HTTP and gRPC, and forwards it to a backend.
//
// The memory that requests take is bounded, whatever they contain: a request that would
// exceed the bound is refused with status 429 or RESOURCE_EXHAUSTED, and the time after
// which to send it again.
package receiver

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.org/ordertrail/trail"
)

// MaxRequest bounds a request's body, in bytes, before and after decompression.
const MaxRequest = 16 << 20

// retryAfter is what a refused client waits.
const retryAfter = time.Second

// Signals that clients send.
const (
	Traces  = "traces"
	Metrics = "metrics"
	Logs    = "logs"
)

// Request is a request as it arrived, without compression.
type Request struct {
	Signal string // Traces, Metrics or Logs
	JSON   bool   // OTLP JSON; else protobuf
	Body   []byte
}

// Receiver is a handler of OTLP requests: POST /v1/traces, and gRPC if the server speaks
// HTTP/2 without TLS. It accepts metrics and logs too, only to forward them.
type Receiver struct {
	// Keep is called with each span. It returns how many it refused, 0 or 1.
	Keep func(...trail.Span) (refused int)
	// Forward is called with each request that was accepted. It must not wait, nor modify
	// the body. It may be nil.
	Forward func(Request)

	budget budget
}

func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		rc.serveGRPC(w, r)
		return
	}
	signal, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	req := Request{Signal: signal, JSON: contentType == "application/json"}
	switch {
	case !ok || signal != Traces && signal != Metrics && signal != Logs:
		http.Error(w, "unknown path: send OTLP to /v1/traces", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "OTLP is sent with POST", http.StatusMethodNotAllowed)
		return
	case !req.JSON && contentType != "application/x-protobuf":
		http.Error(w, "the Content-Type must be application/x-protobuf or application/json", http.StatusUnsupportedMediaType)
		return
	}
	h := load{budget: &rc.budget}
	defer h.release()
	answer, err := rc.receive(&h, req, r.Body, r.Header.Get("Content-Encoding"))
	w.Header().Set("Content-Type", contentType)
	code := http.StatusOK
	if err != nil {
		s := status.Convert(err)
		switch s.Code() {
		case codes.ResourceExhausted:
			code = http.StatusTooManyRequests
			w.Header().Set("Retry-After", fmt.Sprint(int(retryAfter.Seconds())))
		case codes.OutOfRange:
			code = http.StatusRequestEntityTooLarge
		case codes.Unimplemented:
			code = http.StatusUnsupportedMediaType
			w.Header().Set("Accept-Encoding", "gzip")
		default:
			code = http.StatusBadRequest
		}
		if req.JSON {
			answer, _ = json.Marshal(map[string]any{"code": s.Code(), "message": s.Message()})
		} else {
			answer, _ = proto.Marshal(s.Proto())
		}
	}
	w.WriteHeader(code)
	_, _ = w.Write(answer) // an error means that the client has gone
}

// receive reads a request, keeps its spans, and returns the answer.
func (rc *Receiver) receive(h *load, req Request, body io.Reader, encoding string) (answer []byte, err error) {
	switch encoding {
	case "", "identity":
		req.Body, err = h.read(body)
	case "gzip":
		var plain *gzip.Reader
		if plain, err = gzip.NewReader(body); err == nil {
			req.Body, err = h.read(plain)
		}
	default:
		return nil, status.Errorf(codes.Unimplemented, "unknown encoding %.20q: use gzip or none", encoding)
	}
	if _, known := status.FromError(err); err != nil && !known {
		err = status.Errorf(codes.InvalidArgument, "the request cannot be read: %v", err)
	}
	if err != nil {
		return nil, err
	}
	refused := 0
	if req.Signal == Traces {
		if refused, err = rc.keep(h, req); err != nil {
			return nil, err
		}
	}
	if rc.Forward != nil {
		rc.Forward(req)
	}
	result := ptraceotlp.NewExportResponse()
	switch {
	case refused > 0:
		result.PartialSuccess().SetRejectedSpans(int64(refused))
		result.PartialSuccess().SetErrorMessage("spans without a valid trace id and span id, and spans that are too large, are not kept")
		if req.JSON {
			return result.MarshalJSON()
		}
		return result.MarshalProto()
	case req.JSON:
		return []byte("{}"), nil
	}
	return nil, nil
}

// keep keeps the spans of a request. It returns how many were refused.
func (rc *Receiver) keep(h *load, req Request) (refused int, err error) {
	size, err := weigh(req)
	if err == nil {
		err = h.take(size)
	}
	if err != nil {
		return 0, err
	}
	export := ptraceotlp.NewExportRequest()
	if req.JSON {
		err = export.UnmarshalJSON(req.Body)
	} else {
		err = export.UnmarshalProto(req.Body)
	}
	if err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "the request is not OTLP: %v", err)
	}
	for span := range trail.FromOTLP(export.Traces()) {
		refused += rc.Keep(span)
	}
	return refused, nil
}

// tooLarge, tooHeavy and busy are the errors of requests beyond the bounds.
var (
	tooLarge = status.Errorf(codes.OutOfRange, "the request is too large: send fewer spans at a time, at most %d MiB", MaxRequest>>20)
	tooHeavy = status.Errorf(codes.OutOfRange, "the request takes more than %d MiB when it is decoded: send fewer spans at a time", maxLoad>>20)
	busy     = func() error {
		s, err := status.New(codes.ResourceExhausted, "too many requests at a time: try again").
			WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
		if err != nil {
			panic(err) // it does not depend on input
		}
		return s.Err()
	}()
)
