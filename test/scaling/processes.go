package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/service"
)

// The roles of child processes. Each prints its URL when it is ready, and runs until
// SIGTERM.
const (
	roleNATS     = "nats"     // a NATS server on the store args[0]
	roleServices = "services" // the six services on the server args[0]
)

func child(ctx context.Context, role string, args []string) error {
	switch role {
	case roleNATS:
		server, err := embedded.Start(args[0], embedded.Listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
		if err != nil {
			return err
		}
		defer server.Close()
		fmt.Println(server.URL())
		<-ctx.Done()
		return nil
	case roleServices:
		settings, err := service.ReadSettings()
		if err != nil {
			return err
		}
		sys, err := app.Start(ctx, app.Config{
			Connect: func(o ...nats.Option) (*nats.Conn, error) { return nats.Connect(args[0], o...) },
			Log:     slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: settings.LogLevel}), Settings: settings,
		})
		if err != nil {
			return err
		}
		fmt.Println(sys.URL)
		<-ctx.Done()
		stopping, cancel := app.StopTimeout(ctx)
		defer cancel()
		return sys.Stop(stopping)
	}
	return fmt.Errorf("unknown role %q", role)
}

// process is a running child.
type process struct {
	*exec.Cmd
	url   string
	ready time.Time
	took  time.Duration // from the start of the process to ready
}

// startTimeout bounds the wait for a child. A server that was killed reads its whole
// store.
const startTimeout = 5 * time.Minute

func start(ctx context.Context, role, arg string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{Cmd: exec.Command(self, "-role", role, arg)}
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := p.Start(); err != nil {
		return nil, err
	}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- text
		_, _ = io.Copy(io.Discard, out) // until the process ends
	}()
	select {
	case text := <-line:
		p.url, p.ready = strings.TrimSpace(text), time.Now()
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = fmt.Errorf("not ready within %v", startTimeout)
	}
	if p.url == "" {
		_ = p.end(syscall.SIGKILL)
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	p.took = p.ready.Sub(began)
	return p, nil
}

// end sends a signal and waits for the process to end.
func (p *process) end(signal syscall.Signal) error {
	if err := p.Process.Signal(signal); err != nil {
		return err
	}
	if err := p.Wait(); err != nil && signal != syscall.SIGKILL {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// memory returns the resident memory of the process in bytes, as Linux counts it, now or
// at most.
func (p *process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(status), field+":")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); !ok || err != nil {
		return 0, fmt.Errorf("no %s in the status of process %d", field, p.Process.Pid)
	}
	return kilobytes << 10, nil
}
