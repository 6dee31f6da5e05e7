package shopgen

import (
	"strconv"
	"time"
)

// clock writes times in one layout. Most calls fall into the second of the call
// before, so that the text of that second is kept.
type clock struct {
	layout string
	second int64
	text   []byte
}

func (c *clock) append(b []byte, at int64) []byte {
	second := at / 1e9
	if second != c.second || c.text == nil {
		c.second = second
		c.text = time.Unix(second, 0).UTC().AppendFormat(c.text[:0], c.layout)
	}
	return append(b, c.text...)
}

// clocks are the layouts that the services use; all in UTC.
type clocks struct {
	rfc3339, access, java, bsd clock
}

func newClocks() clocks {
	return clocks{
		rfc3339: clock{layout: "2006-01-02T15:04:05"},
		access:  clock{layout: "02/Jan/2006:15:04:05 +0000"},
		java:    clock{layout: "2006-01-02 15:04:05"},
		bsd:     clock{layout: time.Stamp},
	}
}

// appendRFC3339 writes a time with microseconds.
func (c *clocks) appendRFC3339(b []byte, at int64) []byte {
	b = append(c.rfc3339.append(b, at), '.')
	b = appendPadded(b, uint64(at/1e3%1e6), 6)
	return append(b, 'Z')
}

func appendPadded(b []byte, n uint64, width int) []byte {
	var digits [20]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:width]...)
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

// appendMillis writes a duration in nanoseconds as milliseconds with one digit
// after the point.
func appendMillis(b []byte, d int64) []byte {
	b = strconv.AppendInt(b, d/1e6, 10)
	return append(b, '.', byte('0'+d/1e5%10))
}

// appendSeconds writes a duration in nanoseconds as seconds with three digits
// after the point.
func appendSeconds(b []byte, d int64) []byte {
	b = strconv.AppendInt(b, d/1e9, 10)
	return appendPadded(append(b, '.'), uint64(d/1e6%1e3), 3)
}

// appendMoney writes an amount in cents.
func appendMoney(b []byte, cents int) []byte {
	b = strconv.AppendInt(b, int64(cents/100), 10)
	return appendPadded(append(b, '.'), uint64(cents%100), 2)
}

const hexDigits = "0123456789abcdef"

func appendHex(b []byte, n uint64) []byte {
	var digits [16]byte
	for i := 15; i >= 0; i-- {
		digits[i] = hexDigits[n&15]
		n >>= 4
	}
	return append(b, digits[:]...)
}

func appendIPv4(b []byte, ip uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		b = strconv.AppendUint(b, uint64(ip>>shift&255), 10)
		if shift > 0 {
			b = append(b, '.')
		}
	}
	return b
}

type product struct {
	name     string
	category string
	cents    int
}

// products are what the shop sells; a product's number is its index.
var products = []product{
	{"espresso machine", "kitchen", 24900}, {"hand grinder", "kitchen", 8900},
	{"pour-over kettle", "kitchen", 5450}, {"cast-iron pan", "kitchen", 3995},
	{"bread knife", "kitchen", 2750}, {"enamel mug", "kitchen", 1250},
	{"desk lamp", "office", 6990}, {"standing desk", "office", 44900},
	{"monitor arm", "office", 11900}, {"notebook A5", "office", 690},
	{"fountain pen", "office", 3490}, {"cable tray", "office", 1990},
	{"rain jacket", "outdoor", 13900}, {"trail shoes", "outdoor", 11950},
	{"tent for two", "outdoor", 27900}, {"sleeping mat", "outdoor", 7990},
	{"head torch", "outdoor", 4490}, {"steel bottle", "outdoor", 2490},
	{"wool blanket", "home", 8490}, {"linen curtains", "home", 9990},
	{"wall clock", "home", 3990}, {"oak shelf", "home", 12900},
	{"floor cushion", "home", 4590}, {"plant pot", "home", 1890},
}

var searches = []string{"kettle", "desk", "tent", "jacket", "lamp", "gift", "coffee", "shelf", "waterproof"}

var agents = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
	"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
}

var bots = []string{
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
	"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
	"python-requests/2.32.3",
	"curl/8.10.1",
}

var probes = []string{"/.env", "/wp-login.php", "/robots.txt", "/.git/config", "/phpmyadmin/index.php", "/old/sale-2019"}

var assets = []string{"/static/app.css", "/static/app.js", "/static/logo.svg", "/static/fonts/inter.woff2", "/favicon.ico"}

var warehouses = []string{"AMS", "BER", "LYS"}

var providers = []string{"cardnet", "cardnet", "cardnet", "paylane", "giropoint"}
