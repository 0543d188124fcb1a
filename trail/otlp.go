package trail

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// otlpAnswer is an answer of Jaeger: OTLP JSON, with ids in hex, without zero values,
// and with 64-bit numbers as strings.
type otlpAnswer struct {
	Result struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes otlpAttributes `json:"attributes"`
			} `json:"resource"`
			ScopeSpans []struct {
				Spans []otlpSpan `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	} `json:"result"`
}

type otlpSpan struct {
	TraceID      string         `json:"traceId"`
	SpanID       string         `json:"spanId"`
	ParentSpanID string         `json:"parentSpanId"`
	Name         string         `json:"name"`
	Kind         otlpEnum       `json:"kind"`
	Start        otlpInt        `json:"startTimeUnixNano"`
	End          otlpInt        `json:"endTimeUnixNano"`
	Attributes   otlpAttributes `json:"attributes"`
	Events       []struct {
		Name       string         `json:"name"`
		Time       otlpInt        `json:"timeUnixNano"`
		Attributes otlpAttributes `json:"attributes"`
	} `json:"events"`
	Links []struct {
		TraceID    string         `json:"traceId"`
		SpanID     string         `json:"spanId"`
		Attributes otlpAttributes `json:"attributes"`
	} `json:"links"`
	DroppedLinks int `json:"droppedLinksCount"`
	Status       struct {
		Message string   `json:"message"`
		Code    otlpEnum `json:"code"`
	} `json:"status"`
}

func (a otlpAnswer) spans() (spans []Span) {
	seen := map[Ref]bool{} // Jaeger may store a span twice
	for _, resource := range a.Result.ResourceSpans {
		service := resource.Resource.Attributes.read().Text("service.name")
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				span := s.span(service)
				if !seen[span.Ref] {
					seen[span.Ref] = true
					spans = append(spans, span)
				}
			}
		}
	}
	return spans
}

func (s otlpSpan) span(service string) Span {
	span := Span{
		Ref: Ref{s.TraceID, s.SpanID}, ParentID: strings.TrimLeft(s.ParentSpanID, "0"),
		Service: service, Name: s.Name,
		Kind:  s.Kind.name("", "internal", "server", "client", "producer", "consumer"),
		Start: s.Start.time(), End: s.End.time(),
		Status: s.Status.Code.name(StatusUnset, StatusOK, StatusError), StatusMessage: s.Status.Message,
		Attributes: s.Attributes.read(), DroppedLinks: s.DroppedLinks,
	}
	if span.ParentID != "" {
		span.ParentID = s.ParentSpanID
	}
	for _, e := range s.Events {
		span.Events = append(span.Events, Moment{e.Name, e.Time.time(), e.Attributes.read()})
	}
	for _, l := range s.Links {
		span.Links = append(span.Links, Link{Ref{l.TraceID, l.SpanID}, l.Attributes.read()})
	}
	return span
}

// otlpInt is a 64-bit number, encoded as a string or as a number.
type otlpInt int64

func (n *otlpInt) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*n = otlpInt(v)
	return err
}

func (n otlpInt) time() time.Time { return time.Unix(0, int64(n)).UTC() }

// otlpEnum is an enumerated value, encoded as its number or its name.
type otlpEnum string

func (e *otlpEnum) UnmarshalJSON(b []byte) error {
	*e = otlpEnum(strings.ToLower(strings.Trim(string(b), `"`)))
	return nil
}

// name returns the value's name from names, which are in the order of their numbers. An
// unknown value gets the first name that is not "".
func (e otlpEnum) name(names ...string) string {
	for i, n := range names {
		if n != "" && (string(e) == strconv.Itoa(i) || strings.HasSuffix(string(e), "_"+n)) {
			return n
		}
	}
	if names[0] == "" {
		return names[1]
	}
	return names[0]
}

type otlpAttributes []struct {
	Key   string    `json:"key"`
	Value otlpValue `json:"value"`
}

type otlpValue struct {
	String *string  `json:"stringValue"`
	Bool   *bool    `json:"boolValue"`
	Int    *otlpInt `json:"intValue"`
	Double *float64 `json:"doubleValue"`
	Array  *struct {
		Values []otlpValue `json:"values"`
	} `json:"arrayValue"`
}

func (as otlpAttributes) read() Attributes {
	if len(as) == 0 {
		return nil
	}
	read := make(Attributes, len(as))
	for _, a := range as {
		v := a.Value.read()
		switch v.(type) {
		case string, bool, int64, float64:
		default:
			text, _ := json.Marshal(v) // cannot fail: v came from JSON
			v = string(text)
		}
		read[a.Key] = v
	}
	return read
}

func (v otlpValue) read() any {
	switch {
	case v.String != nil:
		return *v.String
	case v.Bool != nil:
		return *v.Bool
	case v.Int != nil:
		return int64(*v.Int)
	case v.Double != nil:
		return *v.Double
	case v.Array != nil:
		list := make([]any, len(v.Array.Values))
		for i, e := range v.Array.Values {
			list[i] = e.read()
		}
		return list
	}
	return ""
}
