package receiver

import (
	"runtime"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// Whatever JSON contains, decoding it takes no more memory than its weight says.
func TestWeightOfJSON(t *testing.T) {
	const n = 100_000
	many := func(part string) string { return strings.Repeat(part+",", n) + part }
	spans := func(text string) string { return `{"resourceSpans":[{"scopeSpans":[{"spans":[` + text + `]}]}]}` }
	attribute := `{"key":"k","value":{"stringValue":"v"}}`
	for name, text := range map[string]string{
		"resources":        `{"resourceSpans":[` + many(`{}`) + `]}`,
		"scopes":           `{"resourceSpans":[{"scopeSpans":[` + many(`{}`) + `]}]}`,
		"spans":            spans(many(`{}`)),
		"spans, escaped":   strings.ReplaceAll(spans(many(`{}`)), "spans", `sp\u0061ns`),
		"spans of several": spans(many(`{"attributes":[{}],"events":[{}],"links":[{}],"status":{}}`)),
		"events":           spans(`{"events":[` + many(`{}`) + `]}`),
		"links":            spans(`{"links":[` + many(`{}`) + `]}`),
		"attributes":       spans(`{"attributes":[` + many(attribute) + `]}`),
		"numbers":          spans(`{"attributes":[` + many(`{"value":{"intValue":1}}`) + `]}`),
		"no attributes":    spans(`{"attributes":[` + many(`{}`) + `]}`),
		"values":           spans(`{"attributes":[{"value":{"arrayValue":{"values":[` + many(`{}`) + `]}}}]}`),
		"pairs":            spans(`{"attributes":[{"value":{"kvlistValue":{"values":[` + many(attribute) + `]}}}]}`),
		"lists":            spans(`{"attributes":[` + many(`{"value":{"arrayValue":{}}}`) + `]}`),
		"lists of one":     spans(`{"attributes":[` + many(`{"value":{"arrayValue":{"values":[{}]}}}`) + `]}`),
		"values of values": spans(`{"attributes":[` + many(`{"value":{"value":{"value":{}}}}`) + `]}`),
		"bytes":            spans(`{"attributes":[` + many(`{"value":{"bytesValue":"AAAA"}}`) + `]}`),
		"entities":         `{"resourceSpans":[{"resource":{"entityRefs":[` + many(`{}`) + `]}}]}`,
		"keys of entities": `{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":[` + many(`""`) + `]}]}}]}`,
	} {
		request := Request{Signal: Traces, JSON: true, Body: []byte(text)}
		weight, err := weigh(request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		before := heap()
		export := ptraceotlp.NewExportRequest()
		if err := export.UnmarshalJSON(request.Body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		took := heap() - before
		runtime.KeepAlive(export)
		t.Logf("%-18s %9d bytes, weight %9d, takes %9d", name, len(text), weight, took)
		if took > weight {
			t.Errorf("%s: %d bytes of JSON take %d, and weigh %d", name, len(text), took, weight)
		}
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
