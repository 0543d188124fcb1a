package trail

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// packer encodes spans as bytes. They take a fifth of the memory of a [Span], contain no
// pointers that the garbage collector must follow, and their size is known.
//
// Words that repeat (names, keys, and values without digits) are encoded as the number
// of their first use.
type packer struct {
	key     attribute.Key
	known   map[string]uint64
	ordered []string // by number; only ever appended to
	buffer  []byte
}

// Bounds of the words.
const (
	maxWords   = 4096
	maxWordLen = 64
)

func newPacker(key attribute.Key) packer { return packer{key: key, known: map[string]uint64{}} }

// words returns the words by number, for unpack.
func (p *packer) words() []string { return p.ordered }

// statuses by their numbers, which are codes.Unset, codes.Error and codes.Ok.
var statuses = []string{StatusUnset, StatusError, StatusOK}

// Types of a value.
const (
	packedString  = iota
	packedOfOrder // a string that ends in the order's id
	packedFalse
	packedTrue
	packedInt
	packedFloat
)

// pack encodes a span without its trace id.
func (p *packer) pack(s trace.ReadOnlySpan) []byte {
	id, parent := s.SpanContext().SpanID(), s.Parent().SpanID()
	service, _ := s.Resource().Set().Value("service.name")
	b := append(p.buffer[:0], id[:]...)
	b = append(b, parent[:]...)
	b = append(b, byte(s.SpanKind()), byte(s.Status().Code)) // #nosec G115 -- both are small
	b = binary.AppendVarint(b, s.StartTime().UnixNano())
	b = binary.AppendVarint(b, int64(s.EndTime().Sub(s.StartTime())))
	b = p.text(b, service.AsString())
	b = p.text(b, s.Name())
	b = p.text(b, s.Status().Description)
	b = p.attributes(b, s.Attributes())
	b = binary.AppendUvarint(b, uint64(len(s.Events())))
	for _, e := range s.Events() {
		b = p.text(b, e.Name)
		b = binary.AppendVarint(b, e.Time.UnixNano())
		b = p.attributes(b, e.Attributes)
	}
	b = binary.AppendUvarint(b, uint64(max(0, s.DroppedLinks())))
	b = binary.AppendUvarint(b, uint64(len(s.Links())))
	for _, l := range s.Links() {
		traceID, id := l.SpanContext.TraceID(), l.SpanContext.SpanID()
		b = append(append(b, traceID[:]...), id[:]...)
		b = p.attributes(b, l.Attributes)
	}
	p.buffer = b
	if cap(b) > 1<<20 {
		p.buffer = nil // one huge batch
	}
	return bytes.Clone(b)
}

// packedID returns the id of a packed span.
func packedID(b []byte) oteltrace.SpanID { return oteltrace.SpanID(b[:8]) }

// attributes encodes the attributes of a span, an event or a link. Many values end in
// the value of the key, which is therefore written once, before all others.
func (p *packer) attributes(b []byte, as []attribute.KeyValue) []byte {
	b = binary.AppendUvarint(b, uint64(len(as)))
	order := valueOf(as, p.key)
	b = p.text(b, order)
	for _, a := range as {
		b = p.text(b, string(a.Key))
		switch v := a.Value; v.Type() {
		case attribute.STRING:
			if prefix, ok := strings.CutSuffix(v.AsString(), order); ok && order != "" {
				b = p.text(append(b, packedOfOrder), prefix)
			} else {
				b = p.text(append(b, packedString), v.AsString())
			}
		case attribute.BOOL:
			if v.AsBool() {
				b = append(b, packedTrue)
			} else {
				b = append(b, packedFalse)
			}
		case attribute.INT64:
			b = binary.AppendVarint(append(b, packedInt), v.AsInt64())
		case attribute.FLOAT64:
			b = binary.BigEndian.AppendUint64(append(b, packedFloat), math.Float64bits(v.AsFloat64()))
		default:
			text, err := json.Marshal(v.AsInterface())
			if err != nil {
				text = []byte(v.String())
			}
			b = p.text(append(b, packedString), string(text))
		}
	}
	return b
}

func valueOf(as []attribute.KeyValue, key attribute.Key) string {
	for _, a := range as {
		if a.Key == key {
			return a.Value.AsString()
		}
	}
	return ""
}

// text encodes a word as 2*number+1, any other text as 2*length and the text.
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

// unpack decodes a span that pack encoded.
func unpack(b []byte, traceID oteltrace.TraceID, words []string) Span {
	u := unpacker{b, words}
	s := Span{Ref: Ref{TraceID: traceID.String(), SpanID: u.hex(8)}, ParentID: u.hex(8)}
	if s.ParentID == "0000000000000000" {
		s.ParentID = ""
	}
	s.Kind, s.Status = oteltrace.SpanKind(u.byte()).String(), statuses[u.byte()]
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

// unpacker reads from the start of b. pack encoded it, so it is never too short.
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
	order := u.text()
	if n == 0 {
		return nil
	}
	as := make(Attributes, n)
	for range n {
		key := u.text()
		switch u.byte() {
		case packedString:
			as[key] = u.text()
		case packedOfOrder:
			as[key] = u.text() + order
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
