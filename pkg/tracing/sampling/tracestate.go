package sampling

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// otelState has the parts of the tracestate member ot that sampling needs.
type otelState struct {
	rv string // the randomness, 14 hexadecimal digits
	th string // the threshold: 1 to 14 hexadecimal digits, without trailing zeros
}

// otelStateOf returns the state of sc. Without rv the randomness is that of the
// trace id, which the consumer's trace does not have.
func otelStateOf(sc trace.SpanContext) otelState {
	s := otelState{rv: fmt.Sprintf("%014x", traceRandomness(sc.TraceID()))}
	for field := range strings.SplitSeq(sc.TraceState().Get("ot"), ";") {
		switch key, value, _ := strings.Cut(field, ":"); {
		case key == "rv" && len(value) == 14 && isHex(value):
			s.rv = value
		case key == "th" && len(value) >= 1 && len(value) <= 14 && isHex(value):
			s.th = value
		}
	}
	return s
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func (s otelState) random() uint64 {
	n, _ := strconv.ParseUint(s.rv, 16, randomBits) // isHex has checked it
	return n
}

// traceRandomness returns the low 56 bits of a trace id.
func traceRandomness(id trace.TraceID) uint64 {
	return binary.BigEndian.Uint64(id[8:]) & (1<<randomBits - 1)
}

func formatThreshold(threshold uint64) string {
	if th := strings.TrimRight(fmt.Sprintf("%014x", threshold), "0"); th != "" {
		return th
	}
	return "0"
}

// result returns the decision with the state as the tracestate of a new trace.
func (s otelState) result(d sdktrace.SamplingDecision) sdktrace.SamplingResult {
	var fields []string
	if s.th != "" {
		fields = append(fields, "th:"+s.th)
	}
	if s.rv != "" {
		fields = append(fields, "rv:"+s.rv)
	}
	state, err := trace.TraceState{}.Insert("ot", strings.Join(fields, ";"))
	if len(fields) == 0 || err != nil {
		state = trace.TraceState{}
	}
	return sdktrace.SamplingResult{Decision: d, Tracestate: state}
}
