package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Settings are the settings from the environment. Package telemetry and
// OpenTelemetry's SDK read OTEL_*.
type Settings struct {
	NATSURL       string        // NATS_URL, default nats://127.0.0.1:4222; several, comma-separated, for a cluster
	NATSUser      string        // NATS_USER and NATS_PASSWORD, or
	NATSPassword  string        //
	NATSNKey      string        // NATS_NKEY: the file that holds the seed
	HTTPAddr      string        // HTTP_ADDR: address of an HTTP API; default: the service's own
	HealthAddr    string        // HEALTH_ADDR: address of the health checks of a service without an HTTP API; default: none
	AllowedHosts  []string      // ALLOWED_HOSTS: further names of this host, comma-separated; see [KnownHosts]
	SMTPURL       *url.URL      // SMTP_URL, smtp://[user:password@]host:port or smtps://…; nil: an outbox in memory
	OrderDeadline time.Duration // ORDER_DEADLINE: an order that takes longer is cancelled; default 30s
	Replicas      int           // STREAM_REPLICAS, 1, 3 or 5; 0: what each stream has, 1 for a new one
	ParentTraces  bool          // TRACE_TOPOLOGY=parent: consumers become children of their producers, to compare with links (default)
	JaegerURL     *url.URL      // JAEGER_URL: Jaeger's query API, for trails; nil: only spans of the same process
	JaegerUIURL   *url.URL      // JAEGER_UI_URL: Jaeger's pages; nil: spans have no links to them
	LogLevel      slog.Level    // LOG_LEVEL: debug, info (default), warn, error

	// KeepsTraces reports that the process keeps the traces of all services, so that the
	// shop needs no JaegerURL for trails. It is no variable; package app sets it.
	KeepsTraces bool

	// Addresses in links between pages.
	ShopURL      *url.URL // SHOP_URL, default http://localhost:8080/
	AnalyticsURL *url.URL // ANALYTICS_URL, default http://localhost:8081/analytics
	MailboxURL   *url.URL // MAILBOX_URL: the mailbox behind SMTP_URL; nil: no link
}

// Default addresses of pages.
var (
	DefaultShopURL      = &url.URL{Scheme: "http", Host: "localhost:8080", Path: "/"}
	DefaultAnalyticsURL = &url.URL{Scheme: "http", Host: "localhost:8081", Path: "/analytics"}
)

// ReadSettings reads the environment. Its error has one line for each wrong variable,
// with the values that are allowed.
func ReadSettings() (Settings, error) {
	s := Settings{
		NATSURL:       os.Getenv("NATS_URL"),
		NATSUser:      os.Getenv("NATS_USER"),
		NATSPassword:  os.Getenv("NATS_PASSWORD"),
		NATSNKey:      os.Getenv("NATS_NKEY"),
		HTTPAddr:      os.Getenv("HTTP_ADDR"),
		HealthAddr:    os.Getenv("HEALTH_ADDR"),
		OrderDeadline: DefaultOrderDeadline,
	}
	var errs []error
	wrong := func(name, want string, err error) {
		if err != nil {
			want += " (" + err.Error() + ")"
		}
		errs = append(errs, fmt.Errorf("setting %s: want %s", name, want))
	}
	if s.NATSURL == "" {
		s.NATSURL = nats.DefaultURL
	}
	for _, u := range strings.Split(s.NATSURL, ",") {
		// The error does not repeat the value, which may hold a password.
		if parsed, err := url.Parse(strings.TrimSpace(u)); err != nil || parsed.Host == "" || !slices.Contains(natsSchemes, parsed.Scheme) {
			wrong("NATS_URL", "nats://host:port, such as "+nats.DefaultURL+", several separated by commas", nil)
			break
		}
	}
	if (s.NATSUser == "") != (s.NATSPassword == "") {
		wrong("NATS_USER and NATS_PASSWORD", "both or neither", nil)
	}
	if s.NATSNKey != "" && s.NATSUser != "" {
		wrong("NATS_NKEY", "it alone, or NATS_USER with NATS_PASSWORD", nil)
	}
	for name, addr := range map[string]string{"HTTP_ADDR": s.HTTPAddr, "HEALTH_ADDR": s.HealthAddr} {
		if err := checkAddr(addr); err != nil {
			wrong(name, "host:port, such as 127.0.0.1:8080", err)
		}
	}
	var err error
	if s.AllowedHosts, err = allowedHosts(os.Getenv("ALLOWED_HOSTS")); err != nil {
		wrong("ALLOWED_HOSTS", "host names, comma-separated, such as shop.example.com", err)
	}
	s.ShopURL = httpURL("SHOP_URL", os.Getenv("SHOP_URL"), "http://localhost:8080", wrong)
	s.AnalyticsURL = httpURL("ANALYTICS_URL", os.Getenv("ANALYTICS_URL"), "http://localhost:8081/analytics", wrong)
	s.MailboxURL = httpURL("MAILBOX_URL", os.Getenv("MAILBOX_URL"), "http://localhost:8025", wrong)
	if v := os.Getenv("SMTP_URL"); v != "" {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" {
			wrong("SMTP_URL", "smtp://[user:password@]host:port, such as smtp://localhost:1025, or smtps:// for TLS from the start", nil)
		}
		s.SMTPURL = u
	}
	s.JaegerURL = httpURL("JAEGER_URL", os.Getenv("JAEGER_URL"), "http://localhost:16686", wrong)
	s.JaegerUIURL = httpURL("JAEGER_UI_URL", os.Getenv("JAEGER_UI_URL"), "http://localhost:16686", wrong)
	if v := os.Getenv("ORDER_DEADLINE"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 || d > maxOrderDeadline {
			wrong("ORDER_DEADLINE", fmt.Sprintf("a duration of up to %v such as 30s, not %q", maxOrderDeadline, v), nil)
		}
		s.OrderDeadline = d
	}
	if v := os.Getenv("STREAM_REPLICAS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n != 1 && n != 3 && n != 5 {
			wrong("STREAM_REPLICAS", fmt.Sprintf("1, 3 or 5, not %q", v), nil)
		}
		s.Replicas = n
	}
	switch v := os.Getenv("TRACE_TOPOLOGY"); v {
	case "", "link":
	case "parent":
		s.ParentTraces = true
	default:
		wrong("TRACE_TOPOLOGY", fmt.Sprintf("link (default) or parent, not %q", v), nil)
	}
	if v := os.Getenv("LOG_LEVEL"); v != "" {
		if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
			wrong("LOG_LEVEL", fmt.Sprintf("debug, info, warn or error, not %q", v), nil)
		}
	}
	return s, errors.Join(errs...)
}

// httpURL parses a variable that holds an HTTP URL; nil if it is empty. The error has the
// example.
func httpURL(name, value, example string, wrong func(name, want string, err error)) *url.URL {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		// The error does not repeat the value, which may hold a password.
		wrong(name, "http://host:port, such as "+example, nil)
		return nil
	}
	return u
}

// natsSchemes are the schemes that the client library connects with.
var natsSchemes = []string{"nats", "tls", "ws", "wss"}

// DefaultOrderDeadline is the default of ORDER_DEADLINE.
const DefaultOrderDeadline = 30 * time.Second

// maxOrderDeadline leaves time to handle a deadline before its stream removes it, after
// a day.
const maxOrderDeadline = 12 * time.Hour

func checkAddr(addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}
