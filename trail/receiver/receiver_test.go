package receiver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
)

// serve starts a server of a Receiver, for HTTP and gRPC. It returns its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// traces returns n spans, each with attributes, an event and a link.
func traces(n int) ptraceotlp.ExportRequest {
	all := ptrace.NewTraces()
	resource := all.ResourceSpans().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "shop")
	spans := resource.ScopeSpans().AppendEmpty().Spans()
	spans.EnsureCapacity(n)
	for i := range n {
		s := spans.AppendEmpty()
		s.SetTraceID(traceID(i / 4))
		s.SetSpanID(spanID(i))
		s.SetName("process orders.created")
		s.SetKind(ptrace.SpanKindConsumer)
		s.SetStartTimestamp(pcommon.Timestamp(1e18 + i))
		s.SetEndTimestamp(pcommon.Timestamp(1e18 + i + 1000))
		for _, key := range []string{"messaging.system", "messaging.operation.name", "server.address", "network.protocol.name", "code.function"} {
			s.Attributes().PutStr(key, "value")
		}
		s.Attributes().PutInt("messaging.message.body.size", int64(i))
		s.Attributes().PutStr("messaging.message.id", spanID(i).String())
		s.Attributes().PutEmptySlice("list").AppendEmpty().SetInt(1)
		s.Events().AppendEmpty().SetName("retried")
		l := s.Links().AppendEmpty()
		l.SetTraceID(traceID(i/4 + 1))
		l.SetSpanID(spanID(i + 4))
		l.Attributes().PutStr("link.relationship", "triggered_by")
	}
	return ptraceotlp.NewExportRequestFromTraces(all)
}

func traceID(i int) (id pcommon.TraceID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	return id
}

func spanID(i int) (id pcommon.SpanID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func post(t testing.TB, addr, path, contentType, encoding string, body []byte) (*http.Response, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body)))
	r.Header.Set("Content-Type", contentType)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	answer := must[*http.Response](t)(http.DefaultClient.Do(r))
	defer func() { _ = answer.Body.Close() }()
	return answer, must[[]byte](t)(io.ReadAll(answer.Body))
}

func client(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	c := must[*grpc.ClientConn](t)(grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Every way to send spans keeps the same spans.
func TestReceives(t *testing.T) {
	request := traces(5)
	proto, text := must[[]byte](t)(request.MarshalProto()), must[[]byte](t)(request.MarshalJSON())
	for name, send := range map[string]func(t *testing.T, addr string){
		"protobuf": func(t *testing.T, addr string) {
			if a, body := post(t, addr, "/v1/traces", "application/x-protobuf", "", proto); a.StatusCode != http.StatusOK || len(body) != 0 || a.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%s %q", a.Status, body)
			}
		},
		"JSON": func(t *testing.T, addr string) {
			if a, body := post(t, addr, "/v1/traces", "application/json; charset=utf-8", "", text); a.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "{") || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %q", a.Status, body)
			}
		},
		"gzip": func(t *testing.T, addr string) {
			if a, body := post(t, addr, "/v1/traces", "application/x-protobuf", "gzip", zipped(proto)); a.StatusCode != http.StatusOK {
				t.Errorf("%s %q", a.Status, body)
			}
		},
		"gRPC": func(t *testing.T, addr string) {
			must[ptraceotlp.ExportResponse](t)(ptraceotlp.NewGRPCClient(client(t, addr)).Export(t.Context(), request))
		},
		"gRPC gzip": func(t *testing.T, addr string) {
			must[ptraceotlp.ExportResponse](t)(ptraceotlp.NewGRPCClient(client(t, addr)).Export(t.Context(), request, grpc.UseCompressor("gzip")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := trail.NewStore(0)
			var forwarded receiver.Request
			send(t, serve(t, &receiver.Receiver{Keep: store.Add, Forward: func(r receiver.Request) { forwarded = r }}))
			found := must[trail.Spans](t)(store.Recent(t.Context(), 10))
			if len(found.Spans) != 5 {
				t.Fatalf("%d spans are kept", len(found.Spans))
			}
			s := found.Spans[0]
			if s.Service != "shop" || s.Name != "process orders.created" || s.Kind != "consumer" || s.End.Sub(s.Start) != time.Microsecond || s.Attributes["list"] != "[1]" || len(s.Events) != 1 ||
				s.Links[0].Ref != (trail.Ref{TraceID: traceID(1).String(), SpanID: spanID(4).String()}) || s.Links[0].Attributes.Text("link.relationship") != "triggered_by" {
				t.Errorf("%+v", s)
			}
			if want := map[bool][]byte{true: text, false: proto}[name == "JSON"]; forwarded.Signal != receiver.Traces || forwarded.JSON != (name == "JSON") || !bytes.Equal(forwarded.Body, want) {
				t.Errorf("%d bytes of %s are forwarded", len(forwarded.Body), forwarded.Signal)
			}
		})
	}
}

// Metrics and logs are accepted, since a program sends all three to one endpoint.
func TestOtherSignals(t *testing.T) {
	var forwarded []string
	addr := serve(t, &receiver.Receiver{Keep: trail.NewStore(0).Add, Forward: func(r receiver.Request) { forwarded = append(forwarded, r.Signal) }})
	for _, path := range []string{"/v1/metrics", "/v1/logs"} {
		if a, body := post(t, addr, path, "application/json", "", []byte("{}")); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %q", path, a.Status, body)
		}
	}
	must[pmetricotlp.ExportResponse](t)(pmetricotlp.NewGRPCClient(client(t, addr)).Export(t.Context(), pmetricotlp.NewExportRequest()))
	must[plogotlp.ExportResponse](t)(plogotlp.NewGRPCClient(client(t, addr)).Export(t.Context(), plogotlp.NewExportRequest()))
	if got := strings.Join(forwarded, " "); got != "metrics logs metrics logs" {
		t.Errorf("%s are forwarded", got)
	}
}

// A span without ids is refused, and the others are kept.
func TestPartialSuccess(t *testing.T) {
	store := trail.NewStore(0)
	addr := serve(t, &receiver.Receiver{Keep: store.Add})
	request := traces(3)
	request.Traces().ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(1).SetSpanID(pcommon.SpanID{})
	answer := must[ptraceotlp.ExportResponse](t)(ptraceotlp.NewGRPCClient(client(t, addr)).Export(t.Context(), request))
	_, body := post(t, addr, "/v1/traces", "application/json", "", must[[]byte](t)(request.MarshalJSON()))
	fromJSON := ptraceotlp.NewExportResponse()
	if err := fromJSON.UnmarshalJSON(body); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]ptraceotlp.ExportResponse{"gRPC": answer, "JSON": fromJSON} {
		if a.PartialSuccess().RejectedSpans() != 1 || a.PartialSuccess().ErrorMessage() == "" || store.Size().Spans != 2 {
			t.Errorf("%s: %d spans are refused, %q, %d are kept", name, a.PartialSuccess().RejectedSpans(), a.PartialSuccess().ErrorMessage(), store.Size().Spans)
		}
	}
}

// bomb returns protobuf with 4 MiB of empty spans, each of which takes hundreds of bytes
// when it is decoded.
func bomb() []byte {
	spans := bytes.Repeat([]byte{0x12, 0}, 2<<20)
	scope := append(binary.AppendUvarint([]byte{0x12}, uint64(len(spans))), spans...)
	return append(binary.AppendUvarint([]byte{0x0a}, uint64(len(scope))), scope...)
}

// deep returns a span with an attribute that is a list in a list and so on.
func deep(levels int) []byte {
	var b []byte
	for range levels {
		list := append(binary.AppendUvarint([]byte{0x0a}, uint64(len(b))), b...)
		b = append(binary.AppendUvarint([]byte{0x2a}, uint64(len(list))), list...)
	}
	for _, tag := range []byte{0x12, 0x4a, 0x12, 0x12, 0x0a} { // value, attribute, span, scope, resource
		b = append(binary.AppendUvarint([]byte{tag}, uint64(len(b))), b...)
	}
	return b
}

// What is not OTLP, or too large, is refused with the status that OTLP prescribes.
func TestRefuses(t *testing.T) {
	store := trail.NewStore(0)
	addr := serve(t, &receiver.Receiver{Keep: store.Add})
	good := must[[]byte](t)(traces(1).MarshalProto())
	large := make([]byte, receiver.MaxRequest+1)
	for name, tc := range map[string]struct {
		path, contentType, encoding string
		body                        []byte
		want                        int
	}{
		"path":           {"/v1/spans", "application/x-protobuf", "", good, http.StatusNotFound},
		"content type":   {"/v1/traces", "text/plain", "", good, http.StatusUnsupportedMediaType},
		"encoding":       {"/v1/traces", "application/x-protobuf", "zstd", good, http.StatusUnsupportedMediaType},
		"no gzip":        {"/v1/traces", "application/x-protobuf", "gzip", good, http.StatusBadRequest},
		"cut gzip":       {"/v1/traces", "application/x-protobuf", "gzip", zipped(good)[:40], http.StatusBadRequest},
		"no protobuf":    {"/v1/traces", "application/x-protobuf", "", []byte("nonsense"), http.StatusBadRequest},
		"nulls":          {"/v1/traces", "application/json", "", []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[null]}]}]}`), http.StatusBadRequest},
		"two of JSON":    {"/v1/traces", "application/json", "", []byte(`{"resourceSpans":[]}` + "\n" + `{"resourceSpans":[]}`), http.StatusBadRequest},
		"JSON and space": {"/v1/traces", "application/json", "", []byte(" {\"resourceSpans\":[]} \r\n"), http.StatusOK},
		"no JSON":        {"/v1/traces", "application/json", "", []byte("nonsense"), http.StatusBadRequest},
		"large":          {"/v1/traces", "application/x-protobuf", "", large, http.StatusRequestEntityTooLarge},
		"large zipped":   {"/v1/traces", "application/x-protobuf", "gzip", zipped(large), http.StatusRequestEntityTooLarge},
		"bomb":           {"/v1/traces", "application/x-protobuf", "", bomb(), http.StatusRequestEntityTooLarge},
		"bomb of JSON":   {"/v1/traces", "application/json", "", []byte(`{"resourceSpans":[` + strings.Repeat("{},", 1<<20) + "{}]}"), http.StatusRequestEntityTooLarge},
		"deep":           {"/v1/traces", "application/x-protobuf", "", deep(1000), http.StatusBadRequest},
		"deep JSON":      {"/v1/traces", "application/json", "", []byte(strings.Repeat(`{"resourceSpans":[`, 100000)), http.StatusBadRequest},
		"not deep":       {"/v1/traces", "application/x-protobuf", "", deep(20), http.StatusOK},
		"metrics, large": {"/v1/metrics", "application/x-protobuf", "", large, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			a, body := post(t, addr, tc.path, tc.contentType, tc.encoding, tc.body)
			if a.StatusCode != tc.want || a.StatusCode != http.StatusOK && len(body) == 0 {
				t.Errorf("%s %q, want %d", a.Status, body, tc.want)
			}
		})
	}
	if answer := must[*http.Response](t)(http.Get("http://" + addr + "/v1/traces")); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s", answer.Status)
	}
	c := client(t, addr)
	if err := c.Invoke(t.Context(), "/opentelemetry.proto.collector.trace.v1.TraceService/Other", &good, new([]byte), grpc.ForceCodecV2(receiver.Plain())); status.Code(err) != codes.Unimplemented {
		t.Errorf("another method: %v", err)
	}
	for name, body := range map[string][]byte{"bomb": bomb(), "large": large, "nonsense": []byte("nonsense")} {
		err := c.Invoke(t.Context(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &body, new([]byte), grpc.ForceCodecV2(receiver.Plain()))
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if store.Size().Spans != 0 {
		t.Errorf("%+v is kept", store.Size())
	}
}

// Requests that would exceed the memory at a time are refused, with the time after which
// to try again, and are accepted then.
func TestBusy(t *testing.T) {
	entered, leave, end := make(chan bool), make(chan bool), make(chan bool)
	keep := func(...trail.Span) int {
		select {
		case entered <- true:
			select {
			case <-leave:
			case <-end:
			}
		case <-end:
		}
		return 0
	}
	addr := serve(t, &receiver.Receiver{Keep: keep})
	body := must[[]byte](t)(traces(1).MarshalProto())
	body = append(body, append([]byte{0x7a}, append(binary.AppendUvarint(nil, 12<<20), make([]byte, 12<<20)...)...)...) // an unknown field
	var group sync.WaitGroup
	defer group.Wait()
	defer close(end)
	group.Go(func() {
		if a, answer := post(t, addr, "/v1/traces", "application/x-protobuf", "", body); a.StatusCode != http.StatusOK {
			t.Errorf("the first: %s %q", a.Status, answer)
		}
	})
	<-entered
	a, answer := post(t, addr, "/v1/traces", "application/x-protobuf", "", body)
	if a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%s %q", a.Status, answer)
	}
	c := client(t, addr)
	send := func() error {
		return c.Invoke(t.Context(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &body, new([]byte), grpc.ForceCodecV2(receiver.Plain()))
	}
	s := status.Convert(send())
	if len(s.Details()) != 1 || s.Code() != codes.ResourceExhausted {
		t.Fatalf("%v %v", s, s.Details())
	}
	if info, ok := s.Details()[0].(*errdetails.RetryInfo); !ok || info.GetRetryDelay().AsDuration() != time.Second {
		t.Errorf("%v", s.Details())
	}
	leave <- true
	group.Go(func() {
		select {
		case <-entered:
			leave <- true
		case <-end:
		}
	})
	for ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second); ; {
		err := send()
		if err == nil {
			cancel()
			break
		}
		if ctx.Err() != nil || status.Code(err) != codes.ResourceExhausted {
			t.Fatal(errors.Join(err, ctx.Err()))
		}
	}
}
