package receiver

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	zip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Bounds of a Forwarder.
const (
	maxQueued    = 32 << 20 // bytes of requests that wait or are being sent
	maxRequests  = 4096
	senders      = 4
	sendTimeout  = 10 * time.Second // for one attempt
	retryTimeout = time.Minute      // for all attempts of one request
	reportEvery  = 10 * time.Second
)

// Forwarder sends requests on to a backend. It never delays the caller of Forward: if the
// backend is away or too slow, requests wait in a bounded queue; beyond it they are
// dropped, counted and logged.
type Forwarder struct {
	to    string
	send  func(context.Context, Request) error
	close func() error
	log   *slog.Logger
	queue chan Request

	bytes, sent, dropped atomic.Int64
	sending              atomic.Int64
	cause                atomic.Value // string: why the newest request was dropped
}

// NewForwarder returns a Forwarder to the OTLP endpoint at a URL: http:// or https:// for
// HTTP, grpc:// or grpcs:// for gRPC. Port 4317 stands for gRPC too. The headers are sent
// with each request. Run must run.
func NewForwarder(to string, headers map[string]string, log *slog.Logger) (*Forwarder, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL such as http://127.0.0.1:4318 or grpc://127.0.0.1:4317", to)
	}
	f := &Forwarder{to: u.Redacted(), log: log, queue: make(chan Request, maxRequests)}
	switch secure := u.Scheme == "https" || u.Scheme == "grpcs"; {
	case u.Scheme == "grpc", u.Scheme == "grpcs", (u.Scheme == "http" || secure) && u.Port() == "4317":
		f.send, f.close, err = grpcSender(u.Host, secure, headers)
	case u.Scheme == "http", secure:
		f.send, f.close = httpSender(u, headers), func() error { return nil }
	default:
		err = fmt.Errorf("unknown scheme %q (schemes: http, https, grpc, grpcs)", u.Scheme)
	}
	return f, err
}

// Forward queues a request, or drops it. It does not wait.
func (f *Forwarder) Forward(r Request) {
	size := int64(cap(r.Body)) // a body that was read piece by piece holds more than its length
	if f.bytes.Add(size) <= maxQueued {
		select {
		case f.queue <- r:
			return
		default:
		}
	}
	f.bytes.Add(-size)
	f.drop("the queue is full")
}

func (f *Forwarder) drop(why string) {
	f.cause.Store(why)
	f.dropped.Add(1)
}

// Counts are the requests that a Forwarder has sent, dropped, and still has: those that
// wait and those that are being sent.
type Counts struct {
	To      string `json:"to"`
	Sent    int64  `json:"sent"`
	Dropped int64  `json:"dropped"`
	Queued  int    `json:"queued"`
}

// Counts returns the numbers so far.
func (f *Forwarder) Counts() Counts {
	return Counts{f.to, f.sent.Load(), f.dropped.Load(), len(f.queue) + int(f.sending.Load())}
}

// Run sends requests until ctx ends, and then those in the queue for at most the given
// time.
func (f *Forwarder) Run(ctx context.Context, finish time.Duration) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var group sync.WaitGroup
	for range senders {
		group.Go(func() { f.work(ctx, sending) })
	}
	group.Go(func() { f.report(ctx) })
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(finish, cancel) })
	defer stop()
	group.Wait()
	_ = f.close()
	for len(f.queue) > 0 {
		<-f.queue
		f.drop("the program ended")
	}
	if c := f.Counts(); c.Dropped > 0 {
		f.log.Warn("requests were not forwarded", "to", f.to, "dropped", c.Dropped, "sent", c.Sent)
	}
}

// work sends requests until ctx ends and the queue is empty, or sending ends.
func (f *Forwarder) work(ctx, sending context.Context) {
	for sending.Err() == nil {
		select {
		case r := <-f.queue:
			f.deliver(sending, r)
			continue
		default:
		}
		select {
		case r := <-f.queue:
			f.deliver(sending, r)
		case <-ctx.Done():
			return
		}
	}
}

func (f *Forwarder) deliver(ctx context.Context, r Request) {
	f.sending.Add(1)
	defer f.sending.Add(-1)
	defer f.bytes.Add(-int64(cap(r.Body)))
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		return struct{}{}, f.send(ctx, r)
	}, backoff.WithMaxElapsedTime(retryTimeout))
	if err != nil {
		f.drop(err.Error())
		return
	}
	f.sent.Add(1)
}

// report logs drops, if there are new ones.
func (f *Forwarder) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	reported := int64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if n := f.dropped.Load(); n > reported {
			f.log.Warn("requests are not forwarded; stories are not affected. Check --forward", "to", f.to, "dropped", n-reported, "error", f.cause.Load())
			reported = n
		}
	}
}

// packers are used again: a new one takes almost a megabyte.
var packers = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

func httpSender(to *url.URL, headers map[string]string) func(context.Context, Request) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = senders // a connection for each
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, r Request) error {
		var body bytes.Buffer
		packed := packers.Get().(*gzip.Writer)
		packed.Reset(&body)
		_, _ = packed.Write(r.Body) // a Buffer never fails
		_ = packed.Close()
		packers.Put(packed)
		post, err := http.NewRequestWithContext(ctx, http.MethodPost, to.JoinPath("/v1/", r.Signal).String(), &body)
		if err != nil {
			return backoff.Permanent(err)
		}
		post.Header.Set("Content-Type", "application/x-protobuf")
		if r.JSON {
			post.Header.Set("Content-Type", "application/json")
		}
		post.Header.Set("Content-Encoding", "gzip")
		for name, value := range headers {
			post.Header.Set(name, value)
		}
		answer, err := client.Do(post)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // the connection can be used again
		switch answer.StatusCode {
		case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
			return nil
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil {
				return backoff.RetryAfter(seconds)
			}
			return errors.New(answer.Status)
		}
		return backoff.Permanent(errors.New(answer.Status))
	}
}

func grpcSender(host string, secure bool, headers map[string]string) (send func(context.Context, Request) error, close func() error, err error) {
	security := insecure.NewCredentials()
	if secure {
		security = credentials.NewTLS(nil)
	}
	// It connects when it first sends.
	connection, err := grpc.NewClient(host, grpc.WithTransportCredentials(security), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{}), grpc.UseCompressor(zip.Name)))
	if err != nil {
		return nil, nil, err
	}
	var converting sync.Mutex // what is decoded takes several times the memory of JSON
	return func(ctx context.Context, r Request) error {
		if r.JSON {
			converting.Lock()
			body, err := toProto(r)
			converting.Unlock()
			if err != nil {
				return backoff.Permanent(fmt.Errorf("%s from JSON to protobuf, which gRPC needs: %w", r.Signal, err))
			}
			r.Body = body
		}
		var answer []byte
		err := connection.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(headers)), method(r.Signal), &r.Body, &answer)
		switch status.Code(err) {
		case codes.OK:
			return nil
		case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss, codes.ResourceExhausted:
			return err
		}
		return backoff.Permanent(err)
	}, connection.Close, nil
}

// toProto converts a request of JSON to protobuf.
func toProto(r Request) ([]byte, error) {
	var export interface {
		UnmarshalJSON([]byte) error
		MarshalProto() ([]byte, error)
	}
	switch r.Signal {
	case Metrics:
		export = pmetricotlp.NewExportRequest()
	case Logs:
		export = plogotlp.NewExportRequest()
	default:
		export = ptraceotlp.NewExportRequest()
	}
	size, err := weigh(r)
	if err == nil && size > maxLoad {
		err = tooHeavy
	}
	if err == nil {
		err = export.UnmarshalJSON(r.Body)
	}
	if err != nil {
		return nil, err
	}
	return export.MarshalProto()
}

// plain is a codec of messages that are encoded already.
type plain struct{}

func (plain) Name() string { return "proto" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (plain) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
