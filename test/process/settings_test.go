package process

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/orders"
)

// Each bad setting stops a binary at once, with one line that names it.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	taken := listen(t).Addr().String()
	for i, tt := range []struct {
		env  string // settings; the last one is bad
		want string // in the line, besides the variable
	}{
		{"NATS_URL=localhost", "nats://host:port, such as nats://127.0.0.1:4222"},
		{"NATS_URL=http://127.0.0.1:4222", "nats://host:port"},
		{"NATS_URL=nats://user:secret@host:port", "nats://host:port"},
		{"NATS_URL=nats://a:4222,,nats://b:4222", "nats://host:port"},
		{"NATS_USER=someone", "NATS_PASSWORD: want both or neither"},
		{"NATS_PASSWORD=secret", "NATS_USER and NATS_PASSWORD: want both or neither"},
		{"NATS_NKEY=/does/not/exist", "no such file"},
		{"NATS_USER=someone NATS_PASSWORD=secret NATS_NKEY=/does/not/exist", "NATS_USER"},
		{"HTTP_ADDR=8080", "host:port"},
		{"HTTP_ADDR=127.0.0.1:65536", "host:port"},
		{"HEALTH_ADDR=localhost", "host:port"},
		{"SMTP_URL=localhost:25", "such as smtp://localhost:1025"},
		{"SMTP_URL=smtp://user:secret@host:port", "smtp://"},
		{"SHOP_URL=localhost", "such as http://localhost:8080"},
		{"ANALYTICS_URL=localhost:8081/analytics", "such as http://localhost:8081/analytics"},
		{"MAILBOX_URL=smtp://localhost", "such as http://localhost:8025"},
		{"JAEGER_URL=localhost:16686", "such as http://localhost:16686"},
		{"JAEGER_URL=http://user:secret@/", "http://host:port"},
		{"JAEGER_UI_URL=jaeger", "such as http://localhost:16686"},
		{"ORDER_DEADLINE=30", "such as 30s"},
		{"ORDER_DEADLINE=-1s", "such as 30s"},
		{"ORDER_DEADLINE=48h", "up to 12h"},
		{"STREAM_REPLICAS=2", "1, 3 or 5"},
		{"STREAM_REPLICAS=three", "1, 3 or 5"},
		{"TRACE_TOPOLOGY=tree", "link (default) or parent"},
		{"LOG_LEVEL=loud", "debug, info, warn or error"},
		{"OTEL_TRACES_EXPORTER=zipkin", "otlp, console or both"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "grpc"},
		{"OTEL_TRACES_SAMPLER=sometimes", "always_on"},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2", "from 0 to 1"},
		{"OTEL_RESOURCE_ATTRIBUTES=novalue", ""},
		{"OTEL_SDK_DISABLED=yes", "true or false"},
		{"OTEL_BSP_MAX_QUEUE_SIZE=big", "whole number"},
	} {
		t.Run(tt.env, func(t *testing.T) {
			t.Parallel()
			env := strings.Split(tt.env, " ")
			variable, _, _ := strings.Cut(env[len(env)-1], "=")
			// No server listens there: a binary that tries to connect does not end.
			env = append([]string{"NATS_URL=nats://" + taken, "HTTP_ADDR=127.0.0.1:0"}, env...)
			p, code := run(t, env, services[i%len(services)])
			refused(t, p, code, variable, tt.want)
			p, code = run(t, env, "ordertrail", "provision")
			refused(t, p, code, variable, tt.want)
			if strings.HasPrefix(variable, "OTEL_") {
				p, code = run(t, append(env, "NATS_URL="), "ordertrail", "demo", "--once")
				refused(t, p, code, variable, tt.want)
			}
		})
	}
}

// refused wants an exit code that is not 0 and one line on standard error, which
// contains all of want and no secret.
func refused(t *testing.T, p *process, code int, want ...string) {
	t.Helper()
	got := p.stderr.String()
	if code == 0 {
		t.Errorf("%s: exit code 0", p.name)
	}
	if strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, p.name+": ") {
		t.Errorf("%s: not one line with the name in front: %q", p.name, got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %q is not in %q", p.name, w, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("%s: prints a secret: %q", p.name, got)
	}
	if out := p.stdout.String(); out != "" {
		t.Errorf("%s: stdout: %q", p.name, out)
	}
}

// A port that is taken stops a service at once, also while NATS is away.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken := listen(t).Addr().String()
	_, port, err := net.SplitHostPort(taken)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		variable := "HEALTH_ADDR"
		if name == orders.Name || name == analytics.Name {
			variable = "HTTP_ADDR"
		}
		p, code := run(t, []string{"NATS_URL=nats://127.0.0.1:" + freePort(t), variable + "=" + taken}, name)
		refused(t, p, code, variable, port, "in use")
	}
	p, code := run(t, []string{"HTTP_ADDR=" + taken}, "ordertrail", "--once")
	refused(t, p, code, "HTTP_ADDR", port, "in use")
	p, code = run(t, anyPort, "ordertrail", "--nats", taken)
	refused(t, p, code, "--nats", port, "in use")
}

// The binary of the container image is a service if it is called by its name.
func TestServiceByName(t *testing.T) {
	t.Parallel()
	for _, name := range services {
		link := filepath.Join(t.TempDir(), name)
		if err := os.Symlink(binary(t, "ordertrail"), link); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(link)
		cmd.Env = []string{"NATS_URL=localhost"}
		out, err := cmd.CombinedOutput()
		if want := name + ": setting NATS_URL"; err == nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("called %s: %v, %q, want %q", name, err, out, want)
		}
	}
}
