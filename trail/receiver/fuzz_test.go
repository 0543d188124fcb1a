package receiver_test

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
)

// FuzzReceiver sends anything in every form: nothing panics, the answer is one that OTLP
// has, and the store can be read and stays within its bound.
func FuzzReceiver(f *testing.F) {
	request := traces(3)
	proto, text := must[[]byte](f)(request.MarshalProto()), must[[]byte](f)(request.MarshalJSON())
	for form, body := range [][]byte{proto, text, zipped(proto), append([]byte{0, 0, 0, byte(len(proto) >> 8), byte(len(proto))}, proto...), deep(70), bomb()[:1000], []byte("nonsense")} {
		f.Add(uint8(form%4), body)
	}
	f.Fuzz(func(t *testing.T, form uint8, body []byte) {
		store := trail.NewStore(1 << 20)
		rc := &receiver.Receiver{Keep: store.Add}
		path, contentType, encoding := "/v1/traces", "application/x-protobuf", ""
		switch form % 6 {
		case 1:
			contentType = "application/json"
		case 2:
			encoding = "gzip"
		case 3:
			path, contentType = "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc"
		case 4: // a whole message
			path, contentType = "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc"
			body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
		case 5:
			body, encoding = zipped(body), "gzip"
		}
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		rc.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("the answer is %d", w.Code)
		}
		found, err := store.Recent(t.Context(), 10)
		if size := store.Size(); err != nil || size.Bytes > 1<<20 {
			t.Errorf("%+v, %v", size, err)
		}
		for _, s := range found.Spans {
			if len(s.TraceID) != 32 || len(s.SpanID) != 16 {
				t.Errorf("%+v", s.Ref)
			}
		}
	})
}
