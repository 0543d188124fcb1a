package notify_test

import (
	"bytes"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// smtpServer is a mail server of the test's own, which takes all mail unless a
// script says otherwise.
type smtpServer struct {
	addr string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	commands []string
	mails    []received
	reply    func(command string) string // in place of the usual answer, unless ""
}

// received is one mail as it came in.
type received struct {
	from, to string // of the envelope
	*mail.Message
	body string
}

func newSMTPServer(tb testing.TB) *smtpServer {
	tb.Helper()
	s := &smtpServer{addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	s.Start(tb)
	tb.Cleanup(s.Stop)
	return s
}

// Start listens, the second time where it did the first time.
func (s *smtpServer) Start(tb testing.TB) {
	tb.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.addr = l, l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			go s.serve(tb, conn)
		}
	}()
}

// Stop ends the server and its connections.
func (s *smtpServer) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listener.Close()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Script has the server answer commands (the greeting is "", the end of a mail is
// ".") as f says, "" being the usual answer and "drop" the end of the connection.
func (s *smtpServer) Script(f func(command string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = f
}

func (s *smtpServer) URL() *url.URL { return &url.URL{Scheme: "smtp", Host: s.addr} }

func (s *smtpServer) Mails() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

// Count is how many commands with this prefix came in.
func (s *smtpServer) Count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.commands {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (s *smtpServer) serve(tb testing.TB, conn net.Conn) {
	c := textproto.NewConn(conn)
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	var from, to string
	for command := ""; ; {
		usual := "250 ok"
		switch verb, _, _ := strings.Cut(strings.ToUpper(command), " "); verb {
		case "":
			usual = "220 mail.example ready"
		case "EHLO":
			usual = "250-mail.example\r\n250 8BITMIME"
		case "MAIL":
			from = command
		case "RCPT":
			to = command
		case "DATA":
			usual = "354 go ahead"
		case "QUIT":
			usual = "221 bye"
		}
		answer := s.answer(command, usual)
		if answer == "drop" || c.PrintfLine("%s", answer) != nil {
			return
		}
		if command == "DATA" && answer == usual {
			raw, err := c.ReadDotBytes()
			if err != nil {
				return
			}
			answer := s.answer(".", "250 taken")
			if strings.HasPrefix(answer, "250") {
				s.take(tb, from, to, raw)
			}
			if answer == "drop" || c.PrintfLine("%s", answer) != nil {
				return
			}
		}
		if command == "QUIT" {
			return
		}
		var err error
		if command, err = c.ReadLine(); err != nil {
			return
		}
	}
}

func (s *smtpServer) answer(command, usual string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = append(s.commands, command)
	if s.reply != nil {
		if answer := s.reply(command); answer != "" {
			return answer
		}
	}
	return usual
}

func (s *smtpServer) take(tb testing.TB, from, to string, raw []byte) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		tb.Errorf("a mail came in that is none: %v: %q", err, raw)
		return
	}
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(m.Body); err != nil {
		tb.Errorf("read a mail: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, received{from, to, m, body.String()})
}
