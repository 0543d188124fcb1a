package notify

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/stream"
)

// Mailer sends mail.
type Mailer interface {
	// Send returns nil when the mail was accepted for delivery. After an error it may
	// have been accepted; an error marked by stream.Permanent is final, and after any
	// other one the mail is tried again later.
	Send(ctx context.Context, m outbox.Mail) error
	// Channel returns "smtp" or "outbox", for spans and events.
	Channel() string
}

// from is the sender of every mail; example domains are reserved (RFC 2606).
const from = "shop@ordertrail.example"

// smtpTimeout bounds each step of sending a mail: connection, greeting, login, mail.
// All four together end before the event that the mail is about is delivered again.
const smtpTimeout = 2 * time.Second

// SMTP sends mails through a server, each on a connection of its own.
type SMTP struct{ client *mail.Client }

// NewSMTP returns a mailer for an SMTP URL: smtp://[user:password@]host[:port] uses TLS if the
// server offers it (port 25), smtps:// uses TLS from the start (port 465).
func NewSMTP(u *url.URL) (*SMTP, error) {
	opts := []mail.Option{mail.WithTimeout(smtpTimeout), mail.WithTLSPolicy(mail.TLSOpportunistic)}
	port := mail.DefaultPort
	if u.Scheme == "smtps" {
		opts, port = append(opts, mail.WithSSL()), mail.DefaultPortSSL
	}
	if p := u.Port(); p != "" {
		var err error
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("setting SMTP_URL: port %q", p)
		}
	}
	opts = append(opts, mail.WithPort(port))
	if u.User != nil {
		password, _ := u.User.Password()
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	client, err := mail.NewClient(u.Hostname(), opts...)
	if err != nil {
		return nil, fmt.Errorf("setting SMTP_URL: %w", err)
	}
	return &SMTP{client}, nil
}

// Send delivers the mail to the server. A refusal of the mail (an answer in the 5xx
// range) is final; a refusal of the connection, of TLS or of the login is not.
func (s *SMTP) Send(ctx context.Context, m outbox.Mail) error {
	msg := mail.NewMsg()
	to, err := netmail.ParseAddress(m.To.Email)
	if err == nil {
		to.Name = m.To.Name
		// Not with AddToFormat, which refuses a name that contains quotes.
		err = errors.Join(msg.From(from), msg.AddTo(to.String()))
	}
	if err != nil {
		// Without the error itself, which quotes the address.
		return stream.Permanent(errors.New("the customer's mail address is not valid"))
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.ID)
	msg.SetBodyString(mail.TypeTextPlain, m.Body())
	ctx, cancel := context.WithTimeout(ctx, smtpTimeout)
	defer cancel()
	err = s.client.DialAndSendWithContext(ctx, msg)
	var refused *mail.SendError
	switch {
	case err == nil, msg.IsDelivered(): // accepted, however the connection ended
		return nil
	case errors.As(err, &refused) && refused.ErrorCode() >= 500:
		return stream.Permanent(fmt.Errorf("mail server refuses the mail: %d %s", refused.ErrorCode(), refused.EnhancedStatusCode()))
	case errors.As(err, &refused):
		return fmt.Errorf("mail server does not take the mail now: %d %s", refused.ErrorCode(), refused.EnhancedStatusCode())
	}
	return fmt.Errorf("mail server: %w", err)
}

// Channel returns "smtp".
func (s *SMTP) Channel() string { return "smtp" }
