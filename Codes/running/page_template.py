"""What a notebook's page has beyond nbconvert's own template: texts for who cannot see a figure, and rules for paper.

nbconvert's other way to alternative texts parses the whole page again (see seams.jupyter_seam).
"""

TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_css -%}
{{ super() }}
<style type="text/css">
@media print {
  body, .jp-Notebook { padding: 0; margin: 0; overflow: visible; }
  h1, h2, h3, h4 { break-after: avoid; }
  img, svg, tr, li, .jp-RenderedImage, .jp-InputArea, blockquote { break-inside: avoid; }
  p { orphans: 3; widows: 3; }
  img { max-width: 100% !important; height: auto !important; }
  thead { display: table-header-group; }
  table { font-size: 80%; }
  pre, code, .highlight pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
  .jp-OutputArea-output, .jp-RenderedHTMLCommon, .highlight { overflow: visible !important; max-height: none; }
  .jp-InputPrompt, .jp-OutputPrompt { display: none; }
}
</style>
{%- endblock html_head_css -%}
{%- block data_png scoped -%}
{%- set told = output | get_metadata('alt', 'image/png') -%}
{%- if told -%}
{{ super() | replace('<img ', '<img alt="' ~ (told | escape_html) ~ '" ', 1) }}
{%- else -%}
{{ super() }}
{%- endif -%}
{%- endblock data_png -%}
"""
