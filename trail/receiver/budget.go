package receiver

import (
	"io"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"example.org/ordertrail/trail"
)

// maxLoad bounds the memory of all requests at a time, in bytes: their bodies, and what
// they become when they are decoded.
const maxLoad = 64 << 20

// budget is the memory that requests take.
type budget struct{ taken atomic.Int64 }

// load is what one request takes of the budget.
type load struct {
	*budget
	held int64
}

// take reserves memory. It returns an error if it is not available now, or never is.
func (l *load) take(n int) error {
	if l.held += int64(n); l.held > maxLoad {
		l.held -= int64(n)
		return tooHeavy
	}
	if l.taken.Add(int64(n)) > maxLoad {
		return busy // release gives it back
	}
	return nil
}

func (l *load) release() { l.taken.Add(-l.held) }

// read reads everything, up to [MaxRequest].
func (l *load) read(r io.Reader) ([]byte, error) {
	var b []byte
	for {
		if len(b) == cap(b) {
			// The memory before counts until the request ends.
			size := min(max(4096, 2*cap(b)), MaxRequest+1)
			if err := l.take(size); err != nil {
				return nil, err
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > MaxRequest:
			return nil, tooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// message is a protobuf message: its approximate size when it is decoded, and the fields
// that are messages themselves.
type message struct {
	size   int
	fields map[protowire.Number]*message
}

type fields = map[protowire.Number]*message

// export is ExportTraceServiceRequest.
var export = func() *message {
	value, pair := &message{24, fields{}}, &message{48, fields{}}
	pair.fields[2] = value
	value.fields[5] = &message{24, fields{1: value}}
	value.fields[6] = &message{24, fields{1: pair}}
	span := &message{320, fields{9: pair, 11: {96, fields{3: pair}}, 13: {128, fields{4: pair}}, 15: {0, nil}}}
	scope := &message{128, fields{1: {0, fields{3: pair}}, 2: span}}
	return &message{0, fields{1: {128, fields{1: {0, fields{1: pair}}, 2: scope}}}}
}()

// maxDepth bounds how deep a value may lie in lists and maps. Decoding is recursive.
const maxDepth = 64

var tooDeep = status.Errorf(codes.InvalidArgument, "values are nested more than %d deep", maxDepth)

// weigh returns the approximate size of a request when it is decoded.
func weigh(r Request) (int, error) {
	if !r.JSON {
		return export.weigh(r.Body, 0)
	}
	if _, err := trail.CheckJSON(r.Body); err != nil {
		return 0, status.Error(codes.InvalidArgument, err.Error())
	}
	return len(r.Body) + weighObjects(r.Body), nil
}

// Sizes of an object of JSON when it is decoded.
const (
	objectSize    = 320 // it may be a span
	attributeSize = 48
	elementSize   = 16 // of a list, besides
)

// attributeKeys are the keys of attributes and of what their values consist of, which are
// the most frequent objects and the smallest.
var attributeKeys = map[string]bool{"attributes": true, "value": true, "arrayValue": true, "kvlistValue": true, "values": true}

// weighObjects returns the approximate size of the objects of a text of JSON when they are
// decoded. The objects of a list have the list's key.
func weighObjects(b []byte) (size int) {
	type value struct{ list, attribute bool }
	var open []value // the lists and objects that have not ended
	key := ""        // the last text, which is the key before a value in an object
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			from := i + 1
			for i = from; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			key = string(b[from:min(i, len(b))])
		case '{', '[':
			v := value{b[i] == '[', attributeKeys[key]}
			if n := len(open); n > 0 && open[n-1].list {
				v.attribute = open[n-1].attribute
			}
			open = append(open, v)
			switch {
			case v.list:
			case v.attribute:
				size += attributeSize
			default:
				size += objectSize
			}
		case ',':
			if n := len(open); n > 0 && open[n-1].list {
				size += elementSize
			}
		case '}', ']':
			open = open[:max(0, len(open)-1)]
		}
	}
	return size
}

func (m *message) weigh(b []byte, depth int) (int, error) {
	if depth > maxDepth {
		return 0, tooDeep
	}
	size := m.size + len(b)
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, status.Error(codes.InvalidArgument, "the request is not protobuf")
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, status.Error(codes.InvalidArgument, "the request is not protobuf")
		}
		if inner := m.fields[number]; inner != nil && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(b)
			s, err := inner.weigh(content, depth+1)
			if err != nil {
				return 0, err
			}
			size += s - len(content)
		}
		b = b[n:]
	}
	return size, nil
}
