package grams

// Piece is part of a text as long as a reader of lines would see it: the grams that begin
// at From … Limit-1 are wanted, they lie before To, and neither they nor their classes
// depend on what is around it.
type Piece struct {
	From, Limit, To uint32
	Often           bool // it is likely to come again
}

// Text is lines, and what is known of them.
type Text struct {
	Slab []byte
	Rows Rows
}

// AddPieces is AddBlock of lines, of others besides, and of those of which all that is known
// are pieces of more: each gram of one of them is in one of these.
func (b *Builder) AddPieces(lines, besides *Text, more []byte, pieces []Piece, stored int) {
	b.besides, b.more, b.pieces = *besides, more, pieces
	b.AddBlock(lines.Slab, &lines.Rows, stored)
	b.besides, b.more, b.pieces = Text{}, nil, nil
}

func (b *Builder) gatherPieces() {
	if len(b.pieces) == 0 {
		return
	}
	clear(b.seen[:]) // of another text
	for _, p := range b.pieces {
		if p.Often {
			b.distinct(b.more, piece{p.From, p.Limit, p.To})
		} else if p.Limit > p.From {
			b.sink.piece(b.more[p.From:p.To], int(p.Limit-p.From))
		}
	}
}

// Around returns the piece with every gram that depends on bytes from … to-1 of text from
// start to end, be it only for its class.
func Around(text []byte, start, end, from, to uint32) Piece {
	p := widen(text, start, end, from, to)
	return Piece{From: p.from, Limit: p.limit, To: p.to}
}

// Chunks appends pieces with the grams that p has, cut where other texts are likely to be
// cut, too. No gram depends on both sides of a cut.
func Chunks(dst []Piece, text []byte, p Piece) []Piece {
	from := p.From
	for i := from; i < p.Limit; i++ {
		if c := text[i]; c == '"' && i > from || c == ' ' && i-from >= minChunk {
			dst = append(dst, Piece{from, i + 1, min(i+1+behind, p.To), true})
			from = i + 1
		}
	}
	return append(dst, Piece{from, p.Limit, p.To, true})
}

// Apart reports whether grams that depend on what is before a literal text never do on
// what is behind it, nor the other way round: there is a byte that ends runs of digits and
// dots, and one more than the longest gram has behind its digits.
func Apart(literal []byte) bool {
	head := 0
	for head < len(literal) && inRun[literal[head]] {
		head++
	}
	return len(literal) >= 3 && len(literal)-head >= 2
}

// Before returns the end of a literal text that grams of what is behind it depend on, and
// Behind the beginning that those of what is before it do.
func Before(literal []byte) []byte {
	n := len(literal)
	for n > 0 && inRun[literal[n-1]] {
		n--
	}
	for n = max(0, n-beforeHex-1); n > 0 && inRun[literal[n-1]]; {
		n--
	}
	return literal[n:]
}

func Behind(literal []byte) []byte {
	n := 0
	for n < len(literal) && inRun[literal[n]] {
		n++
	}
	return literal[:min(len(literal), n+behind+1)]
}
