"""`connectorctl help`."""

from tests.connectorctl.typed import Type


def test_it_is_what_the_option_prints(typed: Type) -> None:
    assert typed("help") == typed("--help")
    assert typed("help kubeconfig") == typed("kubeconfig --help")


def test_a_command_that_there_is_not_is_usage(typed: Type) -> None:
    code, _, err = typed("help kubeconfg")
    assert code == 2
    assert "Did you mean 'kubeconfig'?" in err
