package receiver

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// method is the path of a signal's one gRPC method.
func method(signal string) string {
	service := map[string]string{Traces: "trace.v1.Trace", Metrics: "metrics.v1.Metrics", Logs: "logs.v1.Logs"}[signal]
	return "/opentelemetry.proto.collector." + service + "Service/Export"
}

// serveGRPC answers a unary call. It reads the message itself: a gRPC server would decode
// it before its size in memory is known.
func (rc *Receiver) serveGRPC(w http.ResponseWriter, r *http.Request) {
	h := load{budget: &rc.budget}
	defer h.release()
	answer, err := rc.call(&h, r)
	w.Header().Set("Content-Type", "application/grpc")
	if err == nil {
		_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(answer))), answer...)) // #nosec G115 -- it is short
	}
	s := status.Convert(err)
	code := s.Code()
	if code == codes.OutOfRange {
		code = codes.InvalidArgument // not to be sent again
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(code)))
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", url.PathEscape(s.Message()))
	if details, err := proto.Marshal(s.Proto()); err == nil && len(s.Details()) > 0 {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
}

func (rc *Receiver) call(h *load, r *http.Request) ([]byte, error) {
	for _, signal := range []string{Traces, Metrics, Logs} {
		if r.URL.Path != method(signal) {
			continue
		}
		var prefix [5]byte // whether the message is compressed, and its length
		if _, err := io.ReadFull(r.Body, prefix[:]); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "the message is missing: %v", err)
		}
		encoding := ""
		if prefix[0] != 0 {
			encoding = r.Header.Get("Grpc-Encoding")
		}
		length := binary.BigEndian.Uint32(prefix[1:])
		if length > MaxRequest {
			return nil, tooLarge
		}
		return rc.receive(h, Request{Signal: signal}, &exactly{r.Body, int(length)}, encoding)
	}
	return nil, status.Error(codes.Unimplemented, fmt.Sprintf("unknown method %.100q", r.URL.Path))
}

// exactly reads n bytes. An earlier end is an error.
type exactly struct {
	io.Reader
	n int
}

func (e *exactly) Read(b []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n, err := e.Reader.Read(b[:min(len(b), e.n)])
	if e.n -= n; err == io.EOF && e.n > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
