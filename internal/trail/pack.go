package trail

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// spanOf reads a span of the SDK.
func spanOf(s trace.ReadOnlySpan) Span {
	span := Span{
		Ref:  Ref{s.SpanContext().TraceID().String(), s.SpanContext().SpanID().String()},
		Name: s.Name(), Kind: s.SpanKind().String(),
		Start: s.StartTime().UTC().Round(0), End: s.EndTime().UTC().Round(0),
		Status: statusOf(s.Status().Code), StatusMessage: s.Status().Description,
		Attributes: attributesOf(s.Attributes()), DroppedLinks: s.DroppedLinks(),
	}
	if parent := s.Parent().SpanID(); parent.IsValid() {
		span.ParentID = parent.String()
	}
	for _, a := range s.Resource().Attributes() {
		if a.Key == "service.name" {
			span.Service = a.Value.AsString()
		}
	}
	for _, e := range s.Events() {
		span.Events = append(span.Events, Moment{e.Name, e.Time.UTC().Round(0), attributesOf(e.Attributes)})
	}
	for _, l := range s.Links() {
		span.Links = append(span.Links, Link{
			Ref{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()}, attributesOf(l.Attributes),
		})
	}
	return span
}

func statusOf(c codes.Code) string {
	switch c {
	case codes.Ok:
		return StatusOK
	case codes.Error:
		return StatusError
	}
	return StatusUnset
}

func attributesOf(all []attribute.KeyValue) Attributes {
	if len(all) == 0 {
		return nil
	}
	as := make(Attributes, len(all))
	for _, a := range all {
		switch v := a.Value; v.Type() {
		case attribute.STRING, attribute.BOOL, attribute.INT64, attribute.FLOAT64:
			as[string(a.Key)] = v.AsInterface()
		default:
			text, err := json.Marshal(v.AsInterface())
			if err != nil {
				text = []byte(v.String())
			}
			as[string(a.Key)] = string(text)
		}
	}
	return as
}

// A packer writes spans as bytes, which take a sixth of the memory, hold no pointers
// for the garbage collector to follow, and can be counted.
//
// Words that come again and again (names, keys, and values that hold no digit) are
// written once, and then as their number.
type packer struct {
	known   map[string]uint64
	ordered []string // by number; only ever appended to
	buffer  []byte
}

// Bounds of the words.
const (
	maxWords   = 4096
	maxWordLen = 64
)

func newPacker() packer { return packer{known: map[string]uint64{}} }

// words is what unpack needs.
func (p *packer) words() []string { return p.ordered }

var kinds = []string{"internal", "server", "client", "producer", "consumer"}
var statuses = []string{StatusUnset, StatusOK, StatusError}

// Types of a value.
const (
	packedString = iota
	packedFalse
	packedTrue
	packedInt
	packedFloat
)

// pack writes everything of a span but its trace id.
func (p *packer) pack(s Span) []byte {
	b := p.buffer[:0]
	b = appendHex(b, s.SpanID, 8)
	b = appendHex(b, s.ParentID, 8)
	b = append(b, index(kinds, s.Kind), index(statuses, s.Status))
	b = binary.AppendVarint(b, s.Start.UnixNano())
	b = binary.AppendVarint(b, int64(s.End.Sub(s.Start)))
	b = p.text(b, s.Service)
	b = p.text(b, s.Name)
	b = p.text(b, s.StatusMessage)
	b = p.attributes(b, s.Attributes)
	b = binary.AppendUvarint(b, uint64(len(s.Events)))
	for _, e := range s.Events {
		b = p.text(b, e.Name)
		b = binary.AppendVarint(b, e.Time.UnixNano())
		b = p.attributes(b, e.Attributes)
	}
	b = binary.AppendUvarint(b, uint64(max(0, s.DroppedLinks)))
	b = binary.AppendUvarint(b, uint64(len(s.Links)))
	for _, l := range s.Links {
		b = appendHex(b, l.TraceID, 16)
		b = appendHex(b, l.SpanID, 8)
		b = p.attributes(b, l.Attributes)
	}
	p.buffer = b
	if cap(b) > 1<<20 {
		p.buffer = nil // one huge batch
	}
	return append(make([]byte, 0, len(b)), b...)
}

// packedID is the id of a packed span.
func packedID(b []byte) oteltrace.SpanID { return oteltrace.SpanID(b[:8]) }

func (p *packer) attributes(b []byte, as Attributes) []byte {
	b = binary.AppendUvarint(b, uint64(len(as)))
	for k, v := range as {
		b = p.text(b, k)
		switch v := v.(type) {
		case string:
			b = p.text(append(b, packedString), v)
		case bool:
			if v {
				b = append(b, packedTrue)
			} else {
				b = append(b, packedFalse)
			}
		case int64:
			b = binary.AppendVarint(append(b, packedInt), v)
		case float64:
			b = binary.BigEndian.AppendUint64(append(b, packedFloat), math.Float64bits(v))
		default:
			b = p.text(append(b, packedString), "")
		}
	}
	return b
}

// text writes a word's number, doubled and one more, or a text's length, doubled, and
// the text.
func (p *packer) text(b []byte, s string) []byte {
	n, known := p.known[s]
	if !known && len(p.ordered) < maxWords && len(s) <= maxWordLen && !strings.ContainsAny(s, "0123456789") {
		n, known = uint64(len(p.ordered)), true
		s = strings.Clone(s)
		p.known[s] = n
		p.ordered = append(p.ordered, s)
	}
	if known {
		return binary.AppendUvarint(b, n<<1|1)
	}
	return append(binary.AppendUvarint(b, uint64(len(s))<<1), s...)
}

func index(all []string, s string) byte {
	for i, a := range all {
		if a == s {
			return byte(i)
		}
	}
	return 0
}

// appendHex writes an id as n bytes; one that is none, as zeros.
func appendHex(b []byte, id string, n int) []byte {
	decoded, err := hex.DecodeString(id)
	if err != nil || len(decoded) != n {
		decoded = make([]byte, n)
	}
	return append(b, decoded...)
}

// unpack reads what pack wrote.
func unpack(b []byte, traceID oteltrace.TraceID, words []string) Span {
	u := unpacker{b, words}
	s := Span{Ref: Ref{TraceID: traceID.String(), SpanID: u.hex(8)}, ParentID: u.hex(8)}
	if s.ParentID == "0000000000000000" {
		s.ParentID = ""
	}
	s.Kind, s.Status = kinds[u.byte()], statuses[u.byte()]
	s.Start = time.Unix(0, u.int()).UTC()
	s.End = s.Start.Add(time.Duration(u.int()))
	s.Service, s.Name, s.StatusMessage = u.text(), u.text(), u.text()
	s.Attributes = u.attributes()
	for range u.uint() {
		s.Events = append(s.Events, Moment{u.text(), time.Unix(0, u.int()).UTC(), u.attributes()})
	}
	s.DroppedLinks = int(u.uint()) // #nosec G115 -- it was an int
	for range u.uint() {
		s.Links = append(s.Links, Link{Ref{u.hex(16), u.hex(8)}, u.attributes()})
	}
	return s
}

// unpacker reads from the front of b, which pack wrote: it can't be too short.
type unpacker struct {
	b     []byte
	words []string
}

func (u *unpacker) take(n int) []byte {
	taken := u.b[:n]
	u.b = u.b[n:]
	return taken
}

func (u *unpacker) byte() byte       { return u.take(1)[0] }
func (u *unpacker) hex(n int) string { return hex.EncodeToString(u.take(n)) }

func (u *unpacker) int() int64 {
	v, n := binary.Varint(u.b)
	u.take(n)
	return v
}

func (u *unpacker) uint() uint64 {
	v, n := binary.Uvarint(u.b)
	u.take(n)
	return v
}

func (u *unpacker) text() string {
	n := u.uint()
	if n&1 == 1 {
		return u.words[n>>1]
	}
	return string(u.take(int(n >> 1))) // #nosec G115 -- it was an int
}

func (u *unpacker) attributes() Attributes {
	n := u.uint()
	if n == 0 {
		return nil
	}
	as := make(Attributes, n)
	for range n {
		key := u.text()
		switch u.byte() {
		case packedString:
			as[key] = u.text()
		case packedFalse:
			as[key] = false
		case packedTrue:
			as[key] = true
		case packedInt:
			as[key] = u.int()
		case packedFloat:
			as[key] = math.Float64frombits(binary.BigEndian.Uint64(u.take(8)))
		}
	}
	return as
}
