"""`connectorctl help`."""

from tests.connectorctl.cli_result import RunCli


def test_the_command_prints_the_same_as_the_option(run_cli: RunCli) -> None:
    assert run_cli("help") == run_cli("--help")
    assert run_cli("help kubeconfig") == run_cli("kubeconfig --help")


def test_an_unknown_command_is_a_usage_error(run_cli: RunCli) -> None:
    code, _, err = run_cli("help kubeconfg")
    assert code == 2
    assert "Did you mean 'kubeconfig'?" in err
