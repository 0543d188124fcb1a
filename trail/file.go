package trail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds of files.
const (
	fileMemory = 1 << 30  // for the spans of a file
	fileLine   = 64 << 20 // bytes
)

// OpenFile reads a file with lines of OTLP JSON, as the collector's file exporter writes
// it, and returns the spans as a [Source]. The file may be gzipped. Lines of metrics and
// logs are ignored. An error names the line. A last line that is cut, as one that is being
// written, is left out: [Spans.Partial] says so.
func OpenFile(path string) (*Store, error) {
	f, err := os.Open(path) // #nosec G304 -- the user names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	store, err := ReadFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return store, nil
}

// ReadFile is OpenFile for a file that is open.
func ReadFile(f io.Reader) (*Store, error) {
	in := bufio.NewReaderSize(f, 1<<16)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(in)
		if err != nil {
			return nil, damaged(err)
		}
		in = bufio.NewReaderSize(zipped{plain}, 1<<16)
	}
	store := NewStore(fileMemory)
	for line := 1; ; line++ {
		text, err := readLine(in)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			traces, wrong := unmarshalJSON(text)
			switch {
			case wrong == nil:
				for span := range FromOTLP(traces) {
					store.Add(span)
				}
			case err == io.EOF && line > 1:
				store.partial = fmt.Sprintf("The last line of the file, %d, is cut: its spans are missing.", line)
			default:
				return nil, fmt.Errorf("line %d %w", line, wrong)
			}
		}
		switch {
		case store.Size().Dropped > 0:
			return nil, fmt.Errorf("line %d: the file has more spans than fit in %d MiB: split it", line, fileMemory>>20)
		case err == io.EOF:
			return store, nil
		}
	}
}

// zipped is gzipped data.
type zipped struct{ *gzip.Reader }

func (z zipped) Read(b []byte) (int, error) {
	n, err := z.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = damaged(err)
	}
	return n, err
}

func damaged(err error) error {
	return fmt.Errorf("the gzipped file is cut or damaged: copy it again, or unpack what is left of it with gzip -dc: %w", err)
}

func unmarshalJSON(text []byte) (ptrace.Traces, error) {
	if _, err := CheckJSON(text); err != nil {
		return ptrace.Traces{}, fmt.Errorf("cannot be read: %w", err)
	}
	traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(text)
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("is not OTLP JSON, one message a line: %w", err)
	}
	return traces, nil
}

// readLine returns a line.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > fileLine {
			return nil, fmt.Errorf("it is longer than %d MiB", fileLine>>20)
		}
	}
}

// maxDepth bounds how deep JSON may be nested. Decoding is recursive.
const maxDepth = 128

// CheckJSON returns the number of objects in a text of JSON, each of which may become a
// span. It returns an error if values are nested too deep to be decoded, if a list contains
// null, which a decoder would make a span of, or if something follows the first value,
// which it would ignore.
func CheckJSON(b []byte) (objects int, err error) {
	var open []byte // the lists and objects that have not ended
	text, escaped := false, false
	for i, c := range b {
		switch {
		case objects > 0 && len(open) == 0 && !text && len(bytes.TrimSpace(b[i:i+1])) > 0:
			return 0, fmt.Errorf("after the end of the JSON object, at byte %d, there is more: send one object at a time", i+1)
		case escaped:
			escaped = false
		case text:
			escaped, text = c == '\\', c != '"'
		case c == '"':
			text = true
		case c == '{', c == '[':
			if open = append(open, c); len(open) > maxDepth {
				return 0, fmt.Errorf("values are nested more than %d deep", maxDepth)
			}
			if c == '{' {
				objects++
			}
		case c == '}', c == ']':
			open = open[:max(0, len(open)-1)]
		case c == 'n' && len(open) > 0 && open[len(open)-1] == '[':
			return 0, fmt.Errorf("a list contains null, at byte %d", i+1)
		}
	}
	return objects, nil
}
